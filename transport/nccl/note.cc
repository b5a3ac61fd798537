#include "transport/nccl/note.h"

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
  std::array<std::byte, 40> reserved{};
};
static_assert(sizeof(NoteWire) == kNoteBytes);

/// Which fields a kind has; the others are zero.
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
      return {.lane = true, .number = true, .min_rest = 0, .max_rest = kMaxHeaderBytes};
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

bool is_well_formed(const NoteWire& wire, size_t rest) {
  if (wire.kind < uint32_t(NoteKind::kPlain) || wire.kind > uint32_t(NoteKind::kMoved)) {
    return false;
  }
  const NoteKind kind{wire.kind};
  const Shape shape = shape_of(kind);
  const bool has_payload = kind == NoteKind::kAnnounce;
  return (wire.lane != 0) == shape.lane && (wire.number != 0) == shape.number &&
         (wire.payload_bytes != 0) == has_payload && wire.payload_bytes <= kMaxPayloadBytes &&
         rest >= shape.min_rest && rest <= shape.max_rest &&
         wire.reserved == decltype(wire.reserved){};
}

}  // namespace

Payload encode_note(const Note& note, std::span<const std::byte> rest) {
  const NoteWire wire{uint32_t(note.kind), note.lane, note.number, note.payload_bytes, {}};
  const auto data = allocate_payload(kNoteBytes + rest.size());
  std::memcpy(data.get(), &wire, sizeof(wire));
  if (!rest.empty()) std::memcpy(data.get() + kNoteBytes, rest.data(), rest.size());
  return {data, kNoteBytes + rest.size()};
}

Result<ReceivedNote> decode_note(const Payload& bytes) {
  if (bytes.size() < kNoteBytes) {
    return fail(ErrorCode::kDataLoss, "NCCL note of {} bytes, expected at least {}", bytes.size(),
                kNoteBytes);
  }
  NoteWire wire;
  std::memcpy(&wire, bytes.bytes().data(), sizeof(wire));
  const size_t rest = bytes.size() - kNoteBytes;
  if (!is_well_formed(wire, rest)) {
    return fail(ErrorCode::kDataLoss, "NCCL note of kind {} with {} bytes is damaged", wire.kind,
                bytes.size());
  }
  return ReceivedNote{{NoteKind(wire.kind), wire.lane, wire.number, wire.payload_bytes},
                      bytes.slice(kNoteBytes, rest)};
}

}  // namespace pregate::transport
