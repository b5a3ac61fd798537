// Numbers as checkpoints store them, to and from f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "compute/types.h"

namespace pregate::model {

/// Little-endian, not necessarily aligned.
std::vector<float> to_floats(std::span<const std::byte> bytes, compute::DType dtype);
/// Rounds to nearest even.
std::vector<std::byte> from_floats(std::span<const float> values, compute::DType dtype);

}  // namespace pregate::model
