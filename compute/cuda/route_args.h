// The plain structs between the back end and the kernel that plans where routed rows go, as args.h
// has the others.
#pragma once

#include <cstdint>

#include "compute/cuda/args.h"

namespace pregate::compute::cuda {

/// Device addresses.
struct ExpertAddress {
  const std::byte* gate_up = nullptr;
  const std::byte* down = nullptr;
};

/// Writes the tables of an ExpertsPlan (plan.h) by what TopKArgs chose, but that it leaves open in
/// which order an expert's rows are.
struct RouteArgs {
  const uint32_t* ids = nullptr;  ///< [num_rows * k], below num_experts; of a row, each once.
  const float* chosen_gates = nullptr;
  uint32_t num_rows = 0;
  uint32_t k = 0;
  const ExpertAddress* experts = nullptr;  ///< [num_experts]
  uint32_t num_experts = 0;                ///< At most kMaxRoutedExperts.
  GemmTile gate_up_shape, down_shape;      ///< Panels and blocks of each expert.
  uint32_t* source = nullptr;              ///< [num_places]
  uint32_t num_places = 0;
  GemmTile* gate_up = nullptr;  ///< [num_tiles], `down` too. Tiles that are not needed: no rows.
  GemmTile* down = nullptr;
  uint32_t num_tiles = 0;
  uint32_t* first = nullptr;  ///< [num_rows + 1]
  uint32_t* place = nullptr;  ///< [num_rows * k]: of a row in order of the experts, gates too.
  float* gates = nullptr;
};
inline constexpr uint32_t kMaxRoutedExperts = 1024;

}  // namespace pregate::compute::cuda
