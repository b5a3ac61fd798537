// A communicator that never blocks the thread that uses it for longer than the thread wants.
#pragma once

#include <memory>

#include "transport/nccl/cuda/calls.h"
#include "transport/nccl/lane.h"

namespace pregate::transport {

/// Used by one thread at a time. After an error it is of no use.
class Comm {
 public:
  /// Waits until all ranks have joined. The thread's device is the communicator's.
  static Result<std::unique_ptr<Comm>> join(const LaneKey& key, int rank, int num_ranks,
                                            const Patience& patience);
  Comm(const Comm&) = delete;
  /// Ends what still runs on the device.
  ~Comm();

  /// Device memory. Done in the order of the stream; calls return before.
  Status send(const std::byte* from, size_t bytes, int to, cudaStream_t stream,
              const Patience& patience);
  Status receive(std::byte* to, size_t bytes, int from, cudaStream_t stream,
                 const Patience& patience);
  /// To and from itself.
  Status echo(const std::byte* from, std::byte* to, size_t bytes, int self, cudaStream_t stream,
              const Patience& patience);
  /// Until what a stream was given before the event is done, and nothing went wrong on the device
  /// or the network since.
  Status wait(cudaEvent_t event, const Patience& patience) const;

 private:
  Comm() = default;
  Status check_progress() const;
  Status settle(ncclResult_t result, std::string_view what, const Patience& patience) const;

  ncclComm_t comm_ = nullptr;
};

}  // namespace pregate::transport
