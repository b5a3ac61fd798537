#include <algorithm>

#include "base/check.h"
#include "compute/cpu/backend.h"
#include "compute/cpu/loops.h"
#include "compute/cpu/panel_reader.h"

namespace pregate::compute::cpu {
namespace {

/// Rows that are multiplied with a panel before the next one is fetched: as many as leave half of a
/// 512 KiB second-level cache to the panels.
constexpr size_t kRowBlockBytes = 256 * 1024;

size_t rows_per_block(size_t row_bytes) {
  return std::clamp<size_t>(kRowBlockBytes / row_bytes, 16, 256);
}

struct LinearCall {
  const KernelSet& kernels;
  const CpuMatrix& weights;
  std::span<const std::byte* const> x;  // prepared rows
  std::span<const float> bias;
  Matrix<float> y;

  /// Rows [first_row, first_row + num_rows) of the columns of one panel.
  void multiply(size_t panel, size_t first_row, size_t num_rows, Scratch& panels) const {
    const PanelReader reader(kernels, weights.weight_format, num_rows, weights.cols, panels);
    const MultiplyKernel& kernel = reader.kernel();
    const std::byte* numbers = reader.read(weights.panels.panel(panel));
    alignas(64) float tile[kMaxTileRows * kMaxPanelOutputs];
    for_pieces(num_rows, kernel.max_rows, [&](size_t first, size_t count) {
      kernel.multiply({x.data() + first_row + first, count, weights.cols, numbers, tile});
      for (size_t r = 0; r < count; ++r) {
        write_row(panel, tile + r * kernels.panel_outputs, y.row(first_row + first + r));
      }
    });
  }

  /// The last panel may be wider than what is left of y.
  void write_row(size_t panel, const float* from, std::span<float> row) const {
    const size_t first = panel * kernels.panel_outputs;
    const size_t count = std::min(kernels.panel_outputs, row.size() - first);
    float* to = row.data() + first;
    if (bias.empty()) {
      std::copy_n(from, count, to);
    } else {
      for (size_t c = 0; c < count; ++c) to[c] = from[c] + bias[first + c];
    }
  }
};

}  // namespace

void CpuBackend::linear(const EncodedRows& x, const PackedMatrix& weights,
                        std::span<const float> bias, Matrix<float> y) {
  const auto* matrix = dynamic_cast<const CpuMatrix*>(&weights);
  PREGATE_CHECK(matrix != nullptr && matrix->kernels == &kernels_);
  PREGATE_CHECK(arithmetic_of(x.format) == arithmetic_of(matrix->format()));
  PREGATE_CHECK(x.cols == matrix->cols && y.cols == matrix->rows && y.rows == x.rows);
  PREGATE_CHECK(bias.empty() || bias.size() == y.cols);
  const LinearCall call{kernels_, *matrix, prepare(x, matrix->format()), bias, y};
  const size_t block_rows = rows_per_block(encoded_row_bytes(x.format, x.cols));
  const size_t all_panels = num_panels(kernels_, y.cols);
  const size_t item_panels = panels_per_item(all_panels, threads_.num_threads());
  const size_t items_per_block = divide_up(all_panels, item_panels);
  threads_.parallel_for(
      divide_up(x.rows, block_rows) * items_per_block, [&](size_t item, size_t thread) {
        const size_t first_row = item / items_per_block * block_rows;
        const size_t first_panel = item % items_per_block * item_panels;
        const size_t end_panel = std::min(first_panel + item_panels, all_panels);
        for (size_t panel = first_panel; panel < end_panel; ++panel) {
          call.multiply(panel, first_row, std::min(block_rows, x.rows - first_row),
                        thread_scratch_[thread].panels);
        }
      });
}

}  // namespace pregate::compute::cpu
