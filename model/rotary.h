// Rotary position embedding: the angles for a position (Su et al. 2021) and the ways to stretch
// them beyond the trained length. Equal to transformers' ROPE_INIT_FUNCTIONS.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compute/types.h"
#include "model/config.h"

namespace pregate::model {

/// Immutable, thread-safe.
class Rotary {
 public:
  explicit Rotary(const ModelConfig& config);

  /// Columns of a table, half the rotated part of a head.
  size_t num_frequencies() const { return frequencies_.size(); }

  /// cos and sin [positions.size(), num_frequencies()] row by row, the attention factor included.
  /// sequence_lengths: of the sequence each row belongs to, in tokens. Only RopeType::kDynamic
  /// reads it, and transformers takes it as the larger of prompt length and position + 1.
  void rows(std::span<const uint32_t> positions, std::span<const uint32_t> sequence_lengths,
            compute::Matrix<float> cos, compute::Matrix<float> sin) const;
  /// The same, resized.
  void rows(std::span<const uint32_t> positions, std::span<const uint32_t> sequence_lengths,
            std::vector<float>& cos, std::vector<float>& sin) const;

 private:
  const RopeConfig rope_;
  const size_t rotary_dim_;
  float attention_factor_ = 1.0f;
  std::vector<float> frequencies_;  // radians per position
};

}  // namespace pregate::model
