// Weights as a back end keeps them, and what it is asked to do with them (backend.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compute/types.h"

namespace pregate::compute {

/// The weights of y = W x in the layout a back end likes best. Immutable.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  virtual WeightFormat format() const = 0;
  virtual size_t out_features() const = 0;
  virtual size_t in_features() const = 0;
  virtual size_t bytes() const = 0;
};

/// A gated feed-forward block, down(silu(gate(x)) * up(x)): an expert, a shared expert or a dense
/// MLP. Immutable.
class PackedExpert {
 public:
  virtual ~PackedExpert() = default;
  virtual WeightFormat format() const = 0;
  virtual size_t hidden_size() const = 0;
  virtual size_t intermediate_size() const = 0;
  virtual size_t bytes() const = 0;
};

/// Where a checkpoint keeps the three matrices of a PackedExpert: gate and up [f, h], down [h, f].
struct ExpertSource {
  SourceMatrix gate, up, down;
};

/// See Backend::linear().
struct LinearMap {
  const PackedMatrix* weights = nullptr;
  std::span<const float> bias;
  Matrix<float> y;
};

/// One expert applied to some rows: for each i, out[out_rows[i]] += gates[i] * expert(x[rows[i]]).
/// The product is rounded to f32 before it is added, and tasks are added in the order given, so
/// that adding the products elsewhere in the same order gives the same bits.
struct ExpertTask {
  const PackedExpert* expert = nullptr;
  std::span<const uint32_t> rows;
  std::span<const uint32_t> out_rows;
  std::span<const float> gates;
};

}  // namespace pregate::compute
