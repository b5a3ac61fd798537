// What two processes that have NCCL tell each other by way of the transport that carries their
// messages (protocol/WIRE.md, "NCCL notes"). A note is a message with an empty header; its payload
// is a prefix of 64 bytes and what belongs to it.
#pragma once

#include "transport/nccl/lane.h"
#include "transport/transport.h"

namespace pregate::transport {

enum class NoteKind : uint32_t {
  kPlain = 1,     ///< A message that has no header itself; its payload follows.
  kOffer = 2,     ///< A lane from the sender of this note: its key follows.
  kAnnounce = 3,  ///< A message, whose header follows; its payload comes by the lane.
  kInstead = 4,   ///< The payload of an announced message, which the lane did not bring.
  kReceived = 5,  ///< All announced messages up to this number were handed on.
  kBroken = 6,    ///< The receiver of the lane can use it no more, or never could.
  kMoved = 7,     ///< The payload of an announced message has gone over the lane as a whole.
};

struct Note {
  NoteKind kind = NoteKind::kPlain;
  uint32_t lane = 0;           ///< kOffer, kAnnounce, kBroken: 1, 2, ... as the sender offers them.
  uint64_t number = 0;         ///< Of the message, from 1 on; 0 for other kinds.
  uint64_t payload_bytes = 0;  ///< kAnnounce
};

inline constexpr size_t kNoteBytes = 64;
static_assert(kNoteBytes % kPayloadAlignment == 0, "what follows is a payload itself");

Payload encode_note(const Note& note, std::span<const std::byte> rest = {});

struct ReceivedNote : Note {
  Payload rest;  ///< A key, a header within its limit, or a payload.
};
/// kDataLoss if the bytes are no note.
Result<ReceivedNote> decode_note(const Payload& bytes);

}  // namespace pregate::transport
