// The messages that MPI is receiving, put back into the order they were sent in.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <optional>
#include <unordered_map>

#include <mpi.h>

#include "transport/mpi/frame.h"

namespace pregate::transport {

/// Used by the thread that owns MPI.
class MpiInbox {
 public:
  using Deliver = std::function<void(PeerId, const Result<Frame>&)>;

  /// Looks for new frames, moves what is under way on, and delivers what is whole: of each peer in
  /// order, the payload in place. An error means that the peer cannot be understood any more.
  /// Returns false if nothing happened.
  bool poll(const Deliver& deliver);
  /// Forgets what is half-way from a lost peer; MPI keeps the buffers.
  void abandon(PeerId peer);
  bool empty() const { return arriving_.empty(); }

 private:
  struct Arrival {
    Payload bytes;                       // of the frame
    std::optional<Result<Frame>> frame;  // once it is decoded
    MPI_Request request = MPI_REQUEST_NULL;
  };

  bool accept_frame();
  static void receive_payload(PeerId peer, Arrival& arrival);
  bool advance(PeerId peer, std::deque<Arrival>& arrivals, const Deliver& deliver);

  std::unordered_map<PeerId, std::deque<Arrival>> arriving_;
};

}  // namespace pregate::transport
