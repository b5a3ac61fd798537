// Many random numbers, quickly: gigabytes of them, at the speed of a disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compute/types.h"

namespace pregate::model {

/// Uniform values around `mean` with standard deviation `deviation`, as a checkpoint stores them.
/// Seed and dtype determine every byte, whatever the sizes of the calls.
class RandomValues {
 public:
  struct Distribution {
    float mean = 0.0f;
    float deviation = 1.0f;
  };
  RandomValues(uint64_t seed, Distribution distribution, compute::DType dtype);

  /// Fills `out`, a multiple of kBlockValues values except in the last call.
  void fill(std::span<std::byte> out);

  static constexpr size_t kBlockValues = 16;

 private:
  uint64_t next_lane(size_t lane);
  template <typename Stored, typename Convert>
  void fill_as(std::span<std::byte> out, Convert convert);

  static constexpr size_t kLanes = 4;  // independent generators, for the compiler to interleave
  uint64_t state_[kLanes];
  const float mean_, step_;  // value = mean + step * int16
  const compute::DType dtype_;
};

}  // namespace pregate::model
