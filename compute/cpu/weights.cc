#include "compute/cpu/weights.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "compute/f8.h"
#include "compute/source.h"
#include "compute/weight_bytes.h"

namespace pregate::compute::cpu {
namespace {

size_t element_bytes(WeightFormat format) {
  return format == WeightFormat::kF32 ? 4 : format == WeightFormat::kBf16 ? 2 : 1;
}

bool is_in_groups(WeightFormat format) {
  return format != WeightFormat::kF32 && format != WeightFormat::kBf16;
}

size_t num_groups(size_t cols) { return (cols + kQ8Group - 1) / kQ8Group; }

/// Writes units of kUnitBytes of a row `stride_bytes` apart; the last one may be short.
template <size_t kUnitBytes>
void scatter(std::span<const std::byte> row, size_t stride_bytes, std::byte* out) {
  const size_t whole = row.size() / kUnitBytes * kUnitBytes;
  size_t from = 0;
  for (; from < whole; from += kUnitBytes, out += stride_bytes) {
    std::memcpy(out, row.data() + from, kUnitBytes);
  }
  std::memcpy(out, row.data() + from, row.size() - from);
}

/// The numbers of an output, as many as are multiplied in a step side by side.
void scatter(const KernelSet& kernels, WeightFormat format, std::span<const std::byte> numbers,
             size_t output, std::byte* out) {
  const size_t unit_bytes = kernels.multiply_of(format).step_inputs * element_bytes(format);
  const size_t stride_bytes = unit_bytes * kernels.panel_outputs;
  out += output * unit_bytes;
  if (unit_bytes == 4) return scatter<4>(numbers, stride_bytes, out);
  if (unit_bytes == 2) return scatter<2>(numbers, stride_bytes, out);
  scatter<1>(numbers, stride_bytes, out);
}

/// Scales, then the values of groups: q8 and f8.
void place_scaled_row(const KernelSet& kernels, WeightFormat format, const std::byte* row,
                      size_t cols, size_t output, std::byte* panel) {
  const size_t groups = num_groups(cols);
  const std::byte* values = row + groups * sizeof(float);
  for (size_t g = 0; g < groups; ++g) {
    std::byte* group = panel + g * (kQ8Group + sizeof(float)) * kernels.panel_outputs;
    scatter(kernels, format, {values + g * kQ8Group, kQ8Group}, output, group);
    std::byte* scales = group + kQ8Group * kernels.panel_outputs;
    std::memcpy(scales + 4 * output, row + 4 * g, sizeof(float));
  }
}

/// group: where that of the first output begins in the panel.
void place_q4_group(const Q4Group& from, size_t panel_outputs, size_t output, std::byte* group) {
  uint32_t factors = 0;
  for (size_t p = 0; p < kQ4Parts; ++p) factors |= uint32_t{from.factors[p]} << (4 * p);
  std::memcpy(group + 4 * output, &factors, sizeof(factors));
  const auto scale = static_cast<uint16_t>(std::bit_cast<uint32_t>(from.scale) >> 16);
  std::memcpy(group + 4 * panel_outputs + 2 * output, &scale, sizeof(scale));
  std::byte* codes = group + 6 * panel_outputs + 4 * output;
  for (size_t k = 0; k < kQ8Group; k += 8, codes += 4 * panel_outputs) {
    for (size_t i = 0; i < 4; ++i) {
      const int low = from.codes[k + i] + 8, high = from.codes[k + i + 4] + 8;
      codes[i] = static_cast<std::byte>(low | high << 4);
    }
  }
}

void place_q4_row(const KernelSet& kernels, std::span<const float> row, size_t output,
                  std::byte* panel) {
  for (size_t first = 0; first < row.size(); first += kQ8Group) {
    Q4Group group;
    kernels.round_q4(row.data() + first, std::min(kQ8Group, row.size() - first), group);
    place_q4_group(group, kernels.panel_outputs, output,
                   panel + weight_row_bytes(WeightFormat::kQ4, first) * kernels.panel_outputs);
  }
}

/// Rounds the rows of one panel, most formats like any other rows, and lays them side by side.
Status pack_panel(const KernelSet& kernels, WeightFormat format, const SourceMatrix& source,
                  size_t index, std::span<std::byte> panel) {
  const size_t first = index * kernels.panel_outputs;
  const size_t end = std::min(first + kernels.panel_outputs, source.rows);
  std::vector<float> row(source.cols);
  std::vector<std::byte> rounded(weight_row_bytes(format, source.cols));
  std::ranges::fill(panel, std::byte{0});
  for (size_t r = first; r < end; ++r) {
    PREGATE_TRY(read_row(source, r, row));
    if (format == WeightFormat::kQ4) {
      place_q4_row(kernels, row, r - first, panel.data());
      continue;
    }
    if (format == WeightFormat::kF8) {
      keep_f8_row(source, r, row, rounded.data());
    } else {
      encode_row(kernels, row, format, rounded.data());
    }
    if (is_in_groups(format)) {
      place_scaled_row(kernels, format, rounded.data(), source.cols, r - first, panel.data());
    } else {
      scatter(kernels, format, rounded, r - first, panel.data());
    }
  }
  return {};
}

}  // namespace

size_t panel_bytes(const KernelSet& kernels, WeightFormat format, size_t cols) {
  if (is_in_groups(format)) return weight_row_bytes(format, cols) * kernels.panel_outputs;
  const size_t step = kernels.multiply_of(format).step_inputs;
  const size_t padded_cols = (cols + step - 1) / step * step;
  const size_t bytes = padded_cols * element_bytes(format) * kernels.panel_outputs;
  return (bytes + 63) / 64 * 64;
}

void encode_row(const KernelSet& kernels, std::span<const float> x, WeightFormat format,
                std::byte* out) {
  const auto encode_group = kernels.encode_group[static_cast<size_t>(format)];
  for (size_t first = 0; first < x.size(); first += kQ8Group) {
    const size_t count = std::min(kQ8Group, x.size() - first);
    encode_group(x.data() + first, count, x.size(), first / kQ8Group, out);
  }
}

Panels::Panels(const KernelSet& kernels, WeightFormat format, size_t num_panels, size_t cols)
    : panel_bytes_(cpu::panel_bytes(kernels, format, cols)), buffer_(num_panels * panel_bytes_) {}

Status pack_panels(const KernelSet& kernels, WeightFormat format, const PanelTarget& target,
                   ThreadPool& threads) {
  std::vector<Status> results(num_panels(kernels, target.source.rows));
  threads.parallel_for(results.size(), [&](size_t i, size_t) {
    const std::span<std::byte> panel = target.panels.mutable_panel(target.first + i * target.step);
    results[i] = pack_panel(kernels, format, target.source, i, panel);
  });
  for (Status& result : results) PREGATE_TRY(result);
  return {};
}

}  // namespace pregate::compute::cpu
