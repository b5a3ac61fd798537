// Panels as the kernel for a number of rows reads them.
#pragma once

#include "compute/cpu/buffer.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/weights.h"

namespace pregate::compute::cpu {

/// Whether panels are expanded is decided by how often they will be read, and changes no bit of a
/// result.
class PanelReader {
 public:
  /// `cols`: inputs of the panels. `scratch` holds what was expanded, for as long as this lives.
  PanelReader(const KernelSet& kernels, WeightFormat format, size_t num_rows, size_t cols,
              Scratch& scratch)
      : kernels_(kernels),
        format_(format),
        expands_(stored().expand != nullptr && num_rows >= kExpandRows),
        cols_(cols) {
    if (!expands_) return;
    expanded_bytes_ = panel_bytes(kernels, WeightFormat::kQ8, cols);
    expanded_ = scratch.take<std::byte>(kSlots * expanded_bytes_).data();
  }

  const MultiplyKernel& kernel() const {
    return expands_ ? kernels_.multiply_of(arithmetic_of(format_)) : stored();
  }
  /// For kernel(); valid until the next read() into the same slot.
  const std::byte* read(const std::byte* panel, size_t slot = 0) const {
    if (!expands_) return panel;
    std::byte* const expanded = expanded_ + slot * expanded_bytes_;
    stored().expand(panel, cols_, expanded);
    return expanded;
  }

 private:
  static constexpr size_t kSlots = 2;  // of gate and of up
  const MultiplyKernel& stored() const { return kernels_.multiply_of(format_); }

  const KernelSet& kernels_;
  const WeightFormat format_;
  const bool expands_;
  const size_t cols_;
  size_t expanded_bytes_ = 0;
  std::byte* expanded_ = nullptr;
};

}  // namespace pregate::compute::cpu
