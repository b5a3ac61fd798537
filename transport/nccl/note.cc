#include "transport/nccl/note.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace pregate::transport {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

struct NoteWire {
  uint32_t kind = 0;
  uint32_t lane = 0;
  uint64_t number = 0;
  uint64_t payload_bytes = 0;
  uint32_t header_bytes = 0;
  uint8_t has_tail = 0;
  std::array<std::byte, 35> reserved{};
};
static_assert(sizeof(NoteWire) == kNoteBytes);

/// Which fields a kind has; the others are zero. The rest is without the header.
struct Shape {
  bool lane = false, number = false;
  size_t min_rest = 0, max_rest = 0;
};

Shape shape_of(NoteKind kind) {
  constexpr size_t kKeyBytes = sizeof(LaneKey);
  switch (kind) {
    case NoteKind::kPlain:
      return {.min_rest = 0, .max_rest = kMaxPayloadBytes};
    case NoteKind::kOffer:
      return {.lane = true, .min_rest = kKeyBytes, .max_rest = kKeyBytes};
    case NoteKind::kAnnounce:
      return {.lane = true, .number = true, .min_rest = 0, .max_rest = kMaxPayloadBytes};
    case NoteKind::kInstead:
      return {.number = true, .min_rest = 1, .max_rest = kMaxPayloadBytes};
    case NoteKind::kReceived:
    case NoteKind::kMoved:
      return {.number = true};
    case NoteKind::kBroken:
      return {.lane = true};
  }
  return {};
}

/// What only announcements have. The lane brings something: all of a payload, or its tail.
bool is_announcement(const NoteWire& wire, size_t rest) {
  return wire.payload_bytes > rest && wire.payload_bytes <= kMaxPayloadBytes &&
         wire.header_bytes <= kMaxHeaderBytes && wire.has_tail <= 1 &&
         (wire.has_tail == 1 || rest == 0);
}

bool is_no_announcement(const NoteWire& wire) {
  return wire.payload_bytes == 0 && wire.header_bytes == 0 && wire.has_tail == 0;
}

/// `bytes` follow the prefix.
bool is_well_formed(const NoteWire& wire, size_t bytes) {
  if (wire.kind < uint32_t(NoteKind::kPlain) || wire.kind > uint32_t(NoteKind::kMoved) ||
      wire.header_bytes > bytes) {
    return false;
  }
  const NoteKind kind{wire.kind};
  const Shape shape = shape_of(kind);
  const size_t rest = bytes - wire.header_bytes;
  return (wire.lane != 0) == shape.lane && (wire.number != 0) == shape.number &&
         (kind == NoteKind::kAnnounce ? is_announcement(wire, rest) : is_no_announcement(wire)) &&
         rest >= shape.min_rest && rest <= shape.max_rest &&
         wire.reserved == decltype(wire.reserved){};
}

}  // namespace

Payload encode_note(const Note& note, std::span<const std::byte> rest,
                    std::span<const std::byte> header) {
  const NoteWire wire{.kind = uint32_t(note.kind),
                      .lane = note.lane,
                      .number = note.number,
                      .payload_bytes = note.payload_bytes,
                      .header_bytes = uint32_t(header.size()),
                      .has_tail = uint8_t(note.has_tail)};
  const size_t bytes = kNoteBytes + rest.size() + header.size();
  const auto data = allocate_payload(bytes);
  std::memcpy(data.get(), &wire, sizeof(wire));
  std::ranges::copy(rest, data.get() + kNoteBytes);
  std::ranges::copy(header, data.get() + kNoteBytes + rest.size());
  return {data, bytes};
}

Result<ReceivedNote> decode_note(const Payload& bytes) {
  if (bytes.size() < kNoteBytes) {
    return fail(ErrorCode::kDataLoss, "NCCL note of {} bytes, expected at least {}", bytes.size(),
                kNoteBytes);
  }
  NoteWire wire;
  std::memcpy(&wire, bytes.bytes().data(), sizeof(wire));
  if (!is_well_formed(wire, bytes.size() - kNoteBytes)) {
    return fail(ErrorCode::kDataLoss, "NCCL note of kind {} with {} bytes is damaged", wire.kind,
                bytes.size());
  }
  const size_t rest = bytes.size() - kNoteBytes - wire.header_bytes;
  return ReceivedNote{
      {NoteKind(wire.kind), wire.lane, wire.number, wire.payload_bytes, wire.has_tail == 1},
      bytes.slice(kNoteBytes, rest),
      bytes.bytes().last(wire.header_bytes)};
}

}  // namespace pregate::transport
