// The way between host memory and a lane: two slots, so that the bytes of one are copied while
// those of the other are sent. What lies in device memory needs none of it.
#pragma once

#include <array>
#include <cstddef>

#include "transport/nccl/cuda/stream.h"

namespace pregate::transport {

/// Both ends of a lane cut what they move into pieces of this size.
inline constexpr size_t kStagedBytes = size_t{4} << 20;
inline constexpr size_t kNumSlots = 2;

/// Used by one thread at a time.
class Staging {
 public:
  struct Slot {
    std::byte* pinned = nullptr;  ///< Host memory that the device copies from and to.
    std::byte* device = nullptr;
    cudaStream_t copies = nullptr;
    cudaEvent_t event = nullptr;  ///< The end of what was last begun with the slot.
  };

  Staging() = default;
  Staging(const Staging&) = delete;
  ~Staging();
  /// Of the thread's device. `stream` is where NCCL works. Comes first.
  Status allocate(const LaneStream& stream);

  const Slot& slot(size_t piece) const { return slots_[piece % kNumSlots]; }

  /// What the stream does next comes after it.
  Status upload(const Slot& slot, size_t bytes) const;
  /// The stream was given the slot to send.
  Status sent(const Slot& slot) const;
  /// Comes after what the stream was given.
  Status download(const Slot& slot, size_t bytes) const;

 private:
  cudaStream_t stream_ = nullptr;
  std::array<Slot, kNumSlots> slots_;
};

}  // namespace pregate::transport
