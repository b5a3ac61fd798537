#include <cstring>

#include <gtest/gtest.h>

#include "transport/nccl/note.h"

namespace pregate::transport {
namespace {

constexpr std::byte kRest[] = {std::byte{1}, std::byte{2}, std::byte{3}};
constexpr LaneKey kKey{std::byte{9}};

struct Example {
  Note note;
  std::span<const std::byte> rest;
  std::span<const std::byte> header = {};
};

/// Of a payload with a tail, all but that follows.
Note announcing(uint64_t payload_bytes, bool has_tail = false) {
  return {.kind = NoteKind::kAnnounce,
          .lane = 3,
          .number = 7,
          .payload_bytes = payload_bytes,
          .has_tail = has_tail};
}

const std::vector<Example>& examples() {
  static const std::vector<Example> all = {
      {{.kind = NoteKind::kPlain}, kRest},
      {{.kind = NoteKind::kPlain}, {}},
      {{.kind = NoteKind::kOffer, .lane = 3}, kKey},
      {announcing(5000), {}, kRest},
      {announcing(kMaxPayloadBytes), {}},
      {announcing(5000, true), kRest, kKey},
      {announcing(5000, true), {}, kRest},
      {announcing(sizeof(kRest) + 1, true), kRest},
      {{.kind = NoteKind::kInstead, .number = 7}, kRest},
      {{.kind = NoteKind::kReceived, .number = 7}, {}},
      {{.kind = NoteKind::kBroken, .lane = 3}, {}},
      {{.kind = NoteKind::kMoved, .number = 7}, {}},
  };
  return all;
}

TEST(NcclNote, ComesBackAsItWas) {
  for (const auto& [note, rest, header] : examples()) {
    const Payload encoded = encode_note(note, rest, header);
    const auto decoded = decode_note(encoded);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->kind, note.kind);
    EXPECT_EQ(decoded->lane, note.lane);
    EXPECT_EQ(decoded->number, note.number);
    EXPECT_EQ(decoded->payload_bytes, note.payload_bytes);
    EXPECT_EQ(decoded->has_tail, note.has_tail);
    EXPECT_TRUE(std::ranges::equal(decoded->rest.bytes(), rest));
    EXPECT_TRUE(std::ranges::equal(decoded->header, header));
  }
}

/// Kernels read rows in place.
TEST(NcclNote, PayloadsInItAreAligned) {
  const Note instead{.kind = NoteKind::kInstead, .number = 1};
  for (const Payload& note :
       {encode_note(instead, kRest), encode_note(announcing(5000, true), kRest, kKey)}) {
    const auto decoded = decode_note(note);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(decoded->rest.bytes().data()) % kPayloadAlignment, 0U);
  }
}

TEST(NcclNote, ThatIsDamagedIsRefused) {
  const std::vector<std::byte> long_header(kMaxHeaderBytes + 1);
  const std::vector<Example> damaged = {
      {{.kind = NoteKind{0}}, {}},
      {{.kind = NoteKind{8}}, {}},
      {{.kind = NoteKind::kOffer, .lane = 3}, kRest},
      {{.kind = NoteKind::kOffer}, kKey},
      {announcing(0), {}, kRest},
      {announcing(1), {}, long_header},
      {announcing(kMaxPayloadBytes + 1), {}},
      {announcing(5000), kRest},                        // not all of it comes by the lane
      {announcing(sizeof(kRest), true), kRest, kRest},  // nothing comes by the lane
      {announcing(kMaxPayloadBytes + 1, true), kRest},
      {{.kind = NoteKind::kInstead, .number = 7}, kRest, kRest},
      {{.kind = NoteKind::kInstead, .number = 7, .has_tail = true}, kRest},
      {{.kind = NoteKind::kMoved, .number = 7}, {}, kRest},
      {{.kind = NoteKind::kAnnounce, .number = 7, .payload_bytes = 1}, {}},
      {{.kind = NoteKind::kAnnounce, .lane = 3, .payload_bytes = 1}, {}},
      {{.kind = NoteKind::kInstead, .number = 7}, {}},
      {{.kind = NoteKind::kReceived, .number = 7}, kRest},
      {{.kind = NoteKind::kReceived}, {}},
      {{.kind = NoteKind::kBroken, .lane = 3, .number = 7}, {}},
  };
  for (const auto& [note, rest, header] : damaged) {
    const auto decoded = decode_note(encode_note(note, rest, header));
    ASSERT_FALSE(decoded) << uint32_t(note.kind);
    EXPECT_EQ(decoded.error().code, ErrorCode::kDataLoss);
  }
  EXPECT_FALSE(decode_note(Payload::copy_of(kRest)));
  std::vector<std::byte> bytes(kNoteBytes);
  bytes[0] = std::byte(NoteKind::kReceived);
  bytes[8] = std::byte{1};
  EXPECT_TRUE(decode_note(Payload::copy_of(bytes)));
  bytes[kNoteBytes - 1] = std::byte{1};
  EXPECT_FALSE(decode_note(Payload::copy_of(bytes))) << "reserved";
}

TEST(NcclNote, OfWhichFieldsSayWhatCannotBeIsRefused) {
  const Payload note = encode_note(announcing(5000, true), kRest, kRest);
  constexpr size_t kHeaderBytes = 24, kHasTail = 28;
  for (const auto& [place, value] : {std::pair(kHeaderBytes, 7), std::pair(kHeaderBytes + 3, 1),
                                     std::pair(kHasTail, 2), std::pair(kHasTail, 0)}) {
    std::vector<std::byte> bytes(note.bytes().begin(), note.bytes().end());
    EXPECT_TRUE(decode_note(Payload::copy_of(bytes)));
    bytes[place] = std::byte(value);
    EXPECT_FALSE(decode_note(Payload::copy_of(bytes))) << place;
  }
}

}  // namespace
}  // namespace pregate::transport
