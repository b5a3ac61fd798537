// Weights in a device's memory, as layout.h has them. They are put in order on the host, by its
// threads, and then copied in one piece.
#pragma once

#include <memory>
#include <span>

#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "compute/cuda/arena.h"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {

struct CudaMatrix final : PackedMatrix {
  WeightFormat format() const override { return weight_format; }
  size_t out_features() const override { return rows; }
  size_t in_features() const override { return cols; }
  size_t bytes() const override { return memory.size_bytes(); }
  size_t num_panels() const { return divide_up(rows, kPanelRows); }

  WeightFormat weight_format = WeightFormat::kF32;
  size_t rows = 0, cols = 0;
  Arena::Block memory;
  std::unique_ptr<PackedMatrix> on_host;  ///< The same, for rows that are there; or none.
};

struct CudaExpert final : PackedExpert {
  WeightFormat format() const override { return weight_format; }
  size_t hidden_size() const override { return hidden; }
  size_t intermediate_size() const override { return intermediate; }
  size_t bytes() const override { return memory.size_bytes(); }
  /// 64 outputs of gate and 64 of up each.
  size_t num_gate_up_panels() const { return divide_up(intermediate, kHalfPanel); }
  size_t num_down_panels() const { return divide_up(hidden, kPanelRows); }
  size_t gate_up_bytes() const { return num_gate_up_panels() * panel_bytes(weight_format, hidden); }
  size_t down_bytes() const { return num_down_panels() * panel_bytes(weight_format, intermediate); }
  const std::byte* gate_up() const { return memory.data(); }
  const std::byte* down() const { return memory.data() + gate_up_bytes(); }

  WeightFormat weight_format = WeightFormat::kF32;
  size_t hidden = 0, intermediate = 0;
  Arena::Block memory;
};

/// Puts weights in order; `kernels` encode them as rows are encoded, or round them to kQ4. kF8 is
/// the same everywhere (f8.h).
class Packer {
 public:
  /// All must outlive it.
  Packer(const cpu::KernelSet& kernels, WeightFormat format, ThreadPool& threads)
      : kernels_(kernels), format_(format), threads_(threads) {}

  /// Writes the panels of a matrix. kDataLoss for the first weight that is not finite.
  Status pack(const SourceMatrix& source, std::byte* out) const;
  /// Panels of gate and up together. The error names the matrix.
  Status pack_gate_up(const SourceMatrix& gate, const SourceMatrix& up, std::byte* out) const;

 private:
  /// `num_rows` rows of `source`, beginning with `first`, become rows of a panel, beginning with
  /// `panel_row`.
  Status pack_rows(const SourceMatrix& source, size_t first, size_t num_rows, size_t panel_row,
                   std::byte* panel) const;
  void place_row(const std::byte* encoded, size_t cols, size_t panel_row, std::byte* panel) const;
  /// `weights`: as keep_f8_row() writes them.
  void place_f8_row(const std::byte* weights, size_t cols, size_t panel_row,
                    std::byte* panel) const;
  void place_q4_row(std::span<const float> row, size_t panel_row, std::byte* panel) const;

  const cpu::KernelSet& kernels_;
  WeightFormat format_;
  ThreadPool& threads_;
};

}  // namespace pregate::compute::cuda
