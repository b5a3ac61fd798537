// What experts() does on a device, worked out on the host: where each row goes and which kernel
// takes which piece. Knows nothing of CUDA.
#pragma once

#include <span>
#include <vector>

#include "compute/backend.h"
#include "compute/cuda/args.h"

namespace pregate::compute::cuda {

/// The rows of all tasks, one task after the other, each beginning at a multiple of kAtomRows
/// ("places"), and the tables the kernels read.
struct ExpertsPlan {
  WeightFormat format = WeightFormat::kF32;  ///< Of all experts.
  std::vector<uint32_t> source;              ///< Row of x at each place; kNoRow: nothing is there.
  std::vector<GemmTile> gate_up;             ///< x to activations.
  std::vector<GemmTile> down;         ///< Activations to products; the same rows tile by tile.
  std::vector<uint32_t> first_place;  ///< Of each row of out in `place`, and the end.
  std::vector<uint32_t> place;  ///< Of the products of each row of out, in order of the tasks.
  std::vector<float> gates;     ///< By which those are multiplied.
  uint32_t max_rows = 0;        ///< Of a tile.
  uint32_t max_gate_up_panels = 0;
  uint32_t max_down_panels = 0;

  bool empty() const { return gate_up.empty(); }
};

/// All tasks must be of CudaExpert and their rows in range.
ExpertsPlan plan_experts(std::span<const ExpertTask> tasks, size_t num_out_rows);

struct CudaExpert;
/// Both products of an expert, as tiles without rows.
struct ExpertTiles {
  GemmTile gate_up, down;
};
ExpertTiles tiles_of(const CudaExpert& expert);

}  // namespace pregate::compute::cuda
