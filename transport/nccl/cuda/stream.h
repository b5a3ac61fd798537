// Where NCCL works for a lane, and how far it is there.
#pragma once

#include <array>
#include <cstddef>

#include "transport/nccl/cuda/calls.h"

namespace pregate::transport {

/// Pieces that are begun before the first of them is done, so that the device does not wait for the
/// thread; few enough that NCCL has room for them.
inline constexpr size_t kMaxBegun = 8;

/// Used by one thread at a time.
class LaneStream {
 public:
  LaneStream() = default;
  LaneStream(const LaneStream&) = delete;
  ~LaneStream();
  /// Of the thread's device. Comes first.
  Status open();

  cudaStream_t get() const { return stream_; }
  /// All that was begun up to now belongs to this piece or to one before it.
  Status mark(size_t piece) const;
  /// The end of a piece that is among the last kMaxBegun.
  cudaEvent_t end_of(size_t piece) const { return ends_[piece % kMaxBegun]; }

 private:
  cudaStream_t stream_ = nullptr;
  std::array<cudaEvent_t, kMaxBegun> ends_{};
};

Status make_stream(cudaStream_t& stream);
Status make_event(cudaEvent_t& event);
Status record(cudaEvent_t event, cudaStream_t stream);

}  // namespace pregate::transport
