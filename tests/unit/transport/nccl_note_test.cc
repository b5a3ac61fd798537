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
};

const std::vector<Example>& examples() {
  static const std::vector<Example> all = {
      {{.kind = NoteKind::kPlain}, kRest},
      {{.kind = NoteKind::kPlain}, {}},
      {{.kind = NoteKind::kOffer, .lane = 3}, kKey},
      {{.kind = NoteKind::kAnnounce, .lane = 3, .number = 7, .payload_bytes = 5000}, kRest},
      {{.kind = NoteKind::kAnnounce, .lane = 3, .number = 7, .payload_bytes = kMaxPayloadBytes},
       {}},
      {{.kind = NoteKind::kInstead, .number = 7}, kRest},
      {{.kind = NoteKind::kReceived, .number = 7}, {}},
      {{.kind = NoteKind::kBroken, .lane = 3}, {}},
      {{.kind = NoteKind::kMoved, .number = 7}, {}},
  };
  return all;
}

TEST(NcclNote, ComesBackAsItWas) {
  for (const auto& [note, rest] : examples()) {
    const auto decoded = decode_note(encode_note(note, rest));
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->kind, note.kind);
    EXPECT_EQ(decoded->lane, note.lane);
    EXPECT_EQ(decoded->number, note.number);
    EXPECT_EQ(decoded->payload_bytes, note.payload_bytes);
    EXPECT_TRUE(std::ranges::equal(decoded->rest.bytes(), rest));
  }
}

/// Kernels read rows in place.
TEST(NcclNote, PayloadsInItAreAligned) {
  const auto decoded = decode_note(encode_note({.kind = NoteKind::kInstead, .number = 1}, kRest));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(decoded->rest.bytes().data()) % kPayloadAlignment, 0U);
}

TEST(NcclNote, ThatIsDamagedIsRefused) {
  const std::vector<std::byte> long_header(kMaxHeaderBytes + 1);
  const std::vector<Example> damaged = {
      {{.kind = NoteKind{0}}, {}},
      {{.kind = NoteKind{8}}, {}},
      {{.kind = NoteKind::kOffer, .lane = 3}, kRest},
      {{.kind = NoteKind::kOffer}, kKey},
      {{.kind = NoteKind::kAnnounce, .lane = 3, .number = 7}, kRest},
      {{.kind = NoteKind::kAnnounce, .lane = 3, .number = 7, .payload_bytes = 1}, long_header},
      {{.kind = NoteKind::kAnnounce, .lane = 3, .number = 7, .payload_bytes = kMaxPayloadBytes + 1},
       {}},
      {{.kind = NoteKind::kAnnounce, .number = 7, .payload_bytes = 1}, {}},
      {{.kind = NoteKind::kAnnounce, .lane = 3, .payload_bytes = 1}, {}},
      {{.kind = NoteKind::kInstead, .number = 7}, {}},
      {{.kind = NoteKind::kReceived, .number = 7}, kRest},
      {{.kind = NoteKind::kReceived}, {}},
      {{.kind = NoteKind::kBroken, .lane = 3, .number = 7}, {}},
  };
  for (const auto& [note, rest] : damaged) {
    const auto decoded = decode_note(encode_note(note, rest));
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

}  // namespace
}  // namespace pregate::transport
