// Weights in the layout of a kernel set (see Tile in kernels.h).
#pragma once

#include "base/result.h"
#include "compute/backend.h"
#include "compute/cpu/buffer.h"
#include "compute/cpu/kernels.h"

namespace pregate::compute::cpu {

/// `num_panels` panels of `cols` inputs each, one after the other.
class Panels {
 public:
  Panels() = default;
  Panels(const KernelSet& kernels, WeightFormat format, size_t num_panels, size_t cols);

  std::span<std::byte> mutable_panel(size_t index) {
    return {buffer_.data() + index * panel_bytes_, panel_bytes_};
  }
  const std::byte* panel(size_t index) const { return buffer_.data() + index * panel_bytes_; }
  size_t size_bytes() const { return buffer_.size_bytes(); }

 private:
  size_t panel_bytes_ = 0;
  Buffer buffer_;
};

struct CpuMatrix final : PackedMatrix {
  WeightFormat format() const override { return weight_format; }
  size_t out_features() const override { return rows; }
  size_t in_features() const override { return cols; }
  size_t bytes() const override { return panels.size_bytes(); }

  const KernelSet* kernels = nullptr;
  WeightFormat weight_format = WeightFormat::kF32;
  size_t rows = 0, cols = 0;
  Panels panels;
};

struct CpuExpert final : PackedExpert {
  WeightFormat format() const override { return weight_format; }
  size_t hidden_size() const override { return hidden; }
  size_t intermediate_size() const override { return intermediate; }
  size_t bytes() const override { return gate_up.size_bytes() + down.size_bytes(); }

  const KernelSet* kernels = nullptr;
  WeightFormat weight_format = WeightFormat::kF32;
  size_t hidden = 0, intermediate = 0;
  Panels gate_up;  ///< Panel 2i of gate, 2i + 1 of up: what silu(gate) * up needs lies together.
  Panels down;
};

constexpr size_t num_panels(const KernelSet& kernels, size_t outputs) {
  return (outputs + kernels.panel_outputs - 1) / kernels.panel_outputs;
}

/// Rounds a row to `format`; out has encoded_row_bytes(format, x.size()) bytes.
void encode_row(const KernelSet& kernels, std::span<const float> x, WeightFormat format,
                std::byte* out);

/// Bytes of a panel of weights with `cols` inputs.
size_t panel_bytes(const KernelSet& kernels, WeightFormat format, size_t cols);

/// A source matrix and where its panels go: panel i to first + i * step.
struct PanelTarget {
  const SourceMatrix& source;
  Panels& panels;
  size_t first = 0, step = 1;
};

/// kDataLoss for the first weight that is not finite.
Status pack_panels(const KernelSet& kernels, WeightFormat format, const PanelTarget& target,
                   ThreadPool& threads);

}  // namespace pregate::compute::cpu
