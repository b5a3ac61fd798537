#include "transport/mpi/inbox.h"

namespace pregate::transport {
namespace {

constexpr int kMostFramesAtOnce = 64;

bool is_done(MPI_Request& request) {
  int done = 0;
  MPI_Test(&request, &done, MPI_STATUS_IGNORE);
  return done != 0;
}

}  // namespace

bool MpiInbox::poll(const Deliver& deliver) {
  bool busy = false;
  // All that is there: who drives may leave when it has seen the first.
  for (int i = 0; i < kMostFramesAtOnce && accept_frame(); ++i) busy = true;
  for (auto entry = arriving_.begin(); entry != arriving_.end();) {
    busy |= advance(entry->first, entry->second, deliver);
    entry = entry->second.empty() ? arriving_.erase(entry) : std::next(entry);
  }
  return busy;
}

bool MpiInbox::accept_frame() {
  int found = 0;
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status status;
  const int code =
      MPI_Improbe(MPI_ANY_SOURCE, kFrameTag, MPI_COMM_WORLD, &found, &message, &status);
  if (code != MPI_SUCCESS || !found) return false;
  int size = 0;
  MPI_Get_count(&status, MPI_BYTE, &size);
  const auto data = allocate_payload(static_cast<size_t>(size));
  Arrival& arrival = arriving_[PeerId(static_cast<uint32_t>(status.MPI_SOURCE))].emplace_back();
  arrival.bytes = Payload(data, static_cast<size_t>(size));
  MPI_Imrecv(data.get(), size, MPI_BYTE, &message, &arrival.request);
  return true;
}

bool MpiInbox::advance(PeerId peer, std::deque<Arrival>& arrivals, const Deliver& deliver) {
  // Frames are decoded in order, so that the receives of payloads are posted in order.
  for (Arrival& arrival : arrivals) {
    if (arrival.frame.has_value()) continue;
    if (!is_done(arrival.request)) break;
    arrival.frame = decode_frame(arrival.bytes);
    if (*arrival.frame) receive_payload(peer, arrival);
  }
  bool delivered = false;
  while (!arrivals.empty() && arrivals.front().frame && is_done(arrivals.front().request)) {
    deliver(peer, *arrivals.front().frame);
    arrivals.pop_front();
    delivered = true;
  }
  return delivered;
}

void MpiInbox::receive_payload(PeerId peer, Arrival& arrival) {
  Frame& frame = **arrival.frame;
  if (is_inline(frame.payload_bytes)) return;
  const auto data = allocate_payload(frame.payload_bytes);
  frame.payload = Payload(data, frame.payload_bytes);
  MPI_Irecv(data.get(), static_cast<int>(frame.payload_bytes), MPI_BYTE,
            static_cast<int>(peer.value), kPayloadTag, MPI_COMM_WORLD, &arrival.request);
}

void MpiInbox::abandon(PeerId peer) {
  static auto& abandoned = *new std::list<std::deque<Arrival>>;
  const auto arrivals = arriving_.find(peer);
  if (arrivals == arriving_.end()) return;
  abandoned.push_back(std::move(arrivals->second));
  arriving_.erase(arrivals);
}

}  // namespace pregate::transport
