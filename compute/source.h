// Reading weights as they lie in a checkpoint, with the checks every back end owes its caller.
#pragma once

#include <span>

#include "base/result.h"
#include "compute/backend.h"

namespace pregate::compute {

/// kInvalidArgument if the matrix is empty, or the blocks of its scales are.
Status check_source(const SourceMatrix& source);

/// kInvalidArgument unless gate and up are [f, h] and down is [h, f].
Status check_source(const ExpertSource& source);

/// Writes row `row` as f32, scaled. kDataLoss, naming row and column, for a weight that is NaN or
/// infinite.
Status read_row(const SourceMatrix& source, size_t row, std::span<float> out);

/// The scale of the block in which row and column lie, of a matrix that has scales.
float block_scale(const SourceMatrix& source, size_t row, size_t col);

}  // namespace pregate::compute
