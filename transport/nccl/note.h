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
  kAnnounce = 3,  ///< A message, all that does not come by the lane: its payload, or its tail.
  kInstead = 4,   ///< The payload of an announced message, which the lane did not bring.
  kReceived = 5,  ///< All announced messages up to this number were handed on.
  kBroken = 6,    ///< The receiver of the lane can use it no more, or never could.
  kMoved = 7,     ///< The payload of an announced message has gone over the lane as a whole.
};

struct Note {
  NoteKind kind = NoteKind::kPlain;
  uint32_t lane = 0;           ///< kOffer, kAnnounce, kBroken: 1, 2, ... as the sender offers them.
  uint64_t number = 0;         ///< Of the message, from 1 on; 0 for other kinds.
  uint64_t payload_bytes = 0;  ///< kAnnounce: all of it, whatever brings it.
  bool has_tail = false;       ///< kAnnounce: the payload has one, and only that comes by the lane.
};

inline constexpr size_t kNoteBytes = 64;
static_assert(kNoteBytes % kPayloadAlignment == 0, "what follows is a payload itself");

/// `rest`: a key, a payload, or what of an announced one is not its tail. `header`: kAnnounce.
Payload encode_note(const Note& note, std::span<const std::byte> rest = {},
                    std::span<const std::byte> header = {});

struct ReceivedNote : Note {
  Payload rest;                       ///< As above. Begins where a payload may, if the note does.
  std::span<const std::byte> header;  ///< Within its limit; valid while the note's bytes are.
};
/// kDataLoss if the bytes are no note.
Result<ReceivedNote> decode_note(const Payload& bytes);

}  // namespace pregate::transport
