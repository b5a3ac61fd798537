// The sends that MPI has not finished with.
#pragma once

#include <array>
#include <list>

#include <mpi.h>

#include "transport/transport.h"

namespace pregate::transport {

/// Used by the thread that owns MPI.
class MpiOutbox {
 public:
  /// Starts a send; `payload` is empty where the frame has it inside.
  Status post(uint64_t send_id, PeerId to, Payload frame, Payload payload);
  struct Finished {
    uint64_t id = 0;
    PeerId peer;
    bool was_late = false;  ///< post() had left something to do.
  };
  /// The sends that have finished since.
  std::vector<Finished> poll();
  /// Leaves the sends to a lost peer pending for ever: MPI cannot cancel them, so their bytes are
  /// kept as long as the process lives.
  void abandon(PeerId peer);
  bool empty() const { return sends_.empty(); }

 private:
  struct Send {
    uint64_t id = 0;
    PeerId peer;
    Payload frame, payload;
    std::array<MPI_Request, 2> requests{MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    bool is_late = false;
  };
  std::list<Send> sends_;
};

}  // namespace pregate::transport
