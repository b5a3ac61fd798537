#include "transport/nccl/link.h"

namespace pregate::transport {

Status NcclLink::receive(std::span<const std::byte> header, Payload payload) {
  if (!header.empty()) return in_.receive(header, std::move(payload));
  PREGATE_ASSIGN(const ReceivedNote note, decode_note(payload));
  return read(note);
}

Status NcclLink::read(const ReceivedNote& note) {
  switch (note.kind) {
    case NoteKind::kPlain:
      return in_.receive({}, note.rest);
    case NoteKind::kOffer:
      if (trusted_ || out_.has_sent_payload()) {
        in_.offered(note);
      } else {
        // If there is no room for it, the peer will wait in vain.
        (void)shared_.tell(peer_, {.kind = NoteKind::kBroken, .lane = note.lane});
      }
      return {};
    case NoteKind::kAnnounce:
      return in_.announced(note);
    case NoteKind::kMoved:
      return in_.moved(note);
    case NoteKind::kInstead:
      return in_.instead(note);
    case NoteKind::kReceived:
      return out_.received(note.number);
    case NoteKind::kBroken:
      out_.broken(note.lane);
      return {};
  }
  return {};
}

void NcclLink::close(const Error& why) {
  out_.close(why);
  in_.close();
}

}  // namespace pregate::transport
