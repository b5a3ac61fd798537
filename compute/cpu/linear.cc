#include <algorithm>

#include "base/check.h"
#include "compute/cpu/backend.h"
#include "compute/cpu/loops.h"

namespace pregate::compute::cpu {
namespace {

/// Rows that are multiplied with a panel before the next one is fetched: as many as leave half of a
/// 512 KiB second-level cache to the panels.
constexpr size_t kRowBlockBytes = 256 * 1024;

size_t rows_per_block(size_t row_bytes) {
  return std::clamp<size_t>(kRowBlockBytes / row_bytes, 16, 256);
}

/// The columns of y a panel gives.
struct PanelColumns {
  size_t first, count;
};

PanelColumns columns_of(const KernelSet& kernels, size_t panel, size_t cols) {
  const size_t first = panel * kernels.panel_outputs;
  return {first, std::min(kernels.panel_outputs, cols - first)};
}

}  // namespace

void CpuBackend::linear(const EncodedRows& x, const PackedMatrix& weights,
                        std::span<const float> bias, Matrix<float> y) {
  const auto* matrix = dynamic_cast<const CpuMatrix*>(&weights);
  PREGATE_CHECK(matrix != nullptr && matrix->kernels == &kernels_ && x.format == matrix->format());
  PREGATE_CHECK(x.cols == matrix->cols && y.cols == matrix->rows && y.rows == x.rows);
  PREGATE_CHECK(bias.empty() || bias.size() == y.cols);
  if (x.rows == 0) return;
  const MultiplyKernel& multiply = kernel(x.format);
  const auto rows = prepare(x);
  const size_t block_rows = rows_per_block(encoded_row_bytes(x.format, x.cols));
  const size_t all_panels = num_panels(kernels_, y.cols);
  const size_t item_panels = panels_per_item(all_panels, threads_.num_threads());
  const size_t items_per_block = divide_up(all_panels, item_panels);
  threads_.parallel_for(divide_up(x.rows, block_rows) * items_per_block, [&](size_t item, size_t) {
    const size_t first_row = item / items_per_block * block_rows;
    const size_t num_rows = std::min(block_rows, x.rows - first_row);
    const size_t first_panel = item % items_per_block * item_panels;
    const size_t end_panel = std::min(first_panel + item_panels, all_panels);
    alignas(64) float tile[kMaxTileRows * kMaxPanelOutputs];
    for (size_t panel = first_panel; panel < end_panel; ++panel) {
      const PanelColumns cols = columns_of(kernels_, panel, y.cols);
      for_pieces(num_rows, multiply.max_rows, [&](size_t first, size_t count) {
        multiply.multiply(
            {rows.data() + first_row + first, count, x.cols, matrix->panels.panel(panel), tile});
        for (size_t r = 0; r < count; ++r) {
          const float* from = tile + r * kernels_.panel_outputs;
          float* to = y.row(first_row + first + r).data() + cols.first;
          for (size_t c = 0; c < cols.count; ++c) {
            to[c] = bias.empty() ? from[c] : from[c] + bias[cols.first + c];
          }
        }
      });
    }
  });
}

}  // namespace pregate::compute::cpu
