#include "compute/cuda/weights.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "compute/cpu/weights.h"
#include "compute/f8.h"
#include "compute/source.h"

namespace pregate::compute::cuda {
namespace {

Status first_error(std::vector<Status>& results) {
  for (Status& result : results) PREGATE_TRY(result);
  return {};
}

/// Into a k block that is zero.
void place_q4_group(const Q4Group& group, size_t panel_row, std::byte* block) {
  for (size_t i = 0; i < kQ8Group; ++i) {
    const int code = group.codes[i] - kQ4SmallestCode;
    block[q4_code_at(panel_row, i)] |= static_cast<std::byte>(code << q4_code_shift(i));
  }
  uint32_t factors = 0;
  for (size_t p = 0; p < kQ4Parts; ++p) factors |= uint32_t{group.factors[p]} << (4 * p);
  std::memcpy(block + kQ4FactorsAt + panel_row * sizeof(factors), &factors, sizeof(factors));
  const auto scale = static_cast<uint16_t>(std::bit_cast<uint32_t>(group.scale) >> 16);
  std::memcpy(block + kQ4ScalesAt + panel_row * sizeof(scale), &scale, sizeof(scale));
}

Status named(Status status, std::string_view matrix) {
  return status ? status : fail(in_context(std::move(status.error()), matrix));
}

}  // namespace

void Packer::place_row(const std::byte* encoded, size_t cols, size_t panel_row,
                       std::byte* panel) const {
  const bool scaled = has_scales(format_);
  const size_t blocks = num_blocks(format_, cols);
  const std::byte* values = encoded + (scaled ? blocks * sizeof(float) : 0);
  const size_t num_bytes = scaled ? blocks * kBlockBytes : cols * element_bytes(format_);
  for (size_t at = 0; at < num_bytes; at += 16) {
    std::byte* block = panel + at / kBlockBytes * panel_block_bytes(format_);
    std::memcpy(block + swizzled(panel_row, at % kBlockBytes), values + at,
                std::min<size_t>(16, num_bytes - at));
  }
  if (!scaled) return;
  for (size_t b = 0; b < blocks; ++b) {
    std::byte* scales = panel + b * panel_block_bytes(format_) + kScalesAt;
    std::memcpy(scales + panel_row * sizeof(float), encoded + b * sizeof(float), sizeof(float));
  }
}

void Packer::place_f8_row(const std::byte* weights, size_t cols, size_t panel_row,
                          std::byte* panel) const {
  const size_t groups = divide_up(cols, kQ8Group);
  const std::byte* codes = weights + groups * sizeof(float);
  for (size_t g = 0; g < groups; ++g, codes += kQ8Group, panel += panel_block_bytes(format_)) {
    for (size_t i = 0; i < kQ8Group; ++i) panel[f8_code_at(panel_row, i)] = codes[i];
    std::memcpy(panel + kScalesAt + panel_row * sizeof(float), weights + g * sizeof(float),
                sizeof(float));
  }
}

void Packer::place_q4_row(std::span<const float> row, size_t panel_row, std::byte* panel) const {
  for (size_t first = 0; first < row.size(); first += kQ8Group) {
    Q4Group group;
    kernels_.round_q4(row.data() + first, std::min(kQ8Group, row.size() - first), group);
    place_q4_group(group, panel_row, panel + first / kQ8Group * panel_block_bytes(format_));
  }
}

Status Packer::pack_rows(const SourceMatrix& source, size_t first, size_t num_rows,
                         size_t panel_row, std::byte* panel) const {
  std::vector<float> row(source.cols);
  std::vector<std::byte> rounded(weight_row_bytes(format_, source.cols));
  const size_t end = std::min(first + num_rows, source.rows);
  for (size_t r = first; r < end; ++r) {
    PREGATE_TRY(read_row(source, r, row));
    if (format_ == WeightFormat::kQ4) {
      place_q4_row(row, panel_row + r - first, panel);
    } else if (format_ == WeightFormat::kF8) {
      keep_f8_row(source, r, row, rounded.data());
      place_f8_row(rounded.data(), source.cols, panel_row + r - first, panel);
    } else {
      cpu::encode_row(kernels_, row, format_, rounded.data());
      place_row(rounded.data(), source.cols, panel_row + r - first, panel);
    }
  }
  return {};
}

Status Packer::pack(const SourceMatrix& source, std::byte* out) const {
  const size_t stride = panel_bytes(format_, source.cols);
  std::vector<Status> results(divide_up(source.rows, kPanelRows));
  threads_.parallel_for(results.size(), [&](size_t p, size_t) {
    std::byte* panel = out + p * stride;
    std::memset(panel, 0, stride);
    results[p] = pack_rows(source, p * kPanelRows, kPanelRows, 0, panel);
  });
  return first_error(results);
}

Status Packer::pack_gate_up(const SourceMatrix& gate, const SourceMatrix& up,
                            std::byte* out) const {
  const size_t stride = panel_bytes(format_, gate.cols);
  std::vector<Status> results(divide_up(gate.rows, kHalfPanel));
  threads_.parallel_for(results.size(), [&](size_t p, size_t) {
    std::byte* panel = out + p * stride;
    std::memset(panel, 0, stride);
    results[p] = named(pack_rows(gate, p * kHalfPanel, kHalfPanel, 0, panel), "gate");
    if (results[p])
      results[p] = named(pack_rows(up, p * kHalfPanel, kHalfPanel, kHalfPanel, panel), "up");
  });
  return first_error(results);
}

}  // namespace pregate::compute::cuda
