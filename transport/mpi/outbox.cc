#include "transport/mpi/outbox.h"

#include "transport/mpi/frame.h"

namespace pregate::transport {
namespace {

Status isend(const Payload& bytes, PeerId to, int tag, MPI_Request& request) {
  const int code = MPI_Isend(bytes.bytes().data(), static_cast<int>(bytes.size()), MPI_BYTE,
                             static_cast<int>(to.value), tag, MPI_COMM_WORLD, &request);
  if (code == MPI_SUCCESS) return {};
  return fail(ErrorCode::kUnavailable, "MPI_Isend to rank {} failed with code {}", to, code);
}

bool is_done(std::array<MPI_Request, 2>& requests) {
  int done = 0;
  MPI_Testall(2, requests.data(), &done, MPI_STATUSES_IGNORE);
  return done != 0;
}

}  // namespace

Status MpiOutbox::post(uint64_t send_id, PeerId to, Payload frame, Payload payload) {
  // In the list before MPI knows its bytes: also a send that fails half-way keeps them.
  Send& send = sends_.emplace_back();
  send.id = send_id;
  send.peer = to;
  send.frame = std::move(frame);
  send.payload = std::move(payload);
  PREGATE_TRY(isend(send.frame, to, kFrameTag, send.requests[0]));
  if (send.payload.size() > 0) PREGATE_TRY(isend(send.payload, to, kPayloadTag, send.requests[1]));
  send.is_late = !is_done(send.requests);
  return {};
}

std::vector<MpiOutbox::Finished> MpiOutbox::poll() {
  std::vector<Finished> finished;
  for (auto send = sends_.begin(); send != sends_.end();) {
    if (!is_done(send->requests)) {
      ++send;
      continue;
    }
    finished.push_back({send->id, send->peer, send->is_late});
    send = sends_.erase(send);
  }
  return finished;
}

void MpiOutbox::abandon(PeerId peer) {
  // Not destroyed even at exit: a peer that is only frozen may still read them.
  static auto& abandoned = *new std::list<Send>;
  for (auto send = sends_.begin(); send != sends_.end();) {
    const auto next = std::next(send);
    if (send->peer == peer) abandoned.splice(abandoned.end(), sends_, send);
    send = next;
  }
}

}  // namespace pregate::transport
