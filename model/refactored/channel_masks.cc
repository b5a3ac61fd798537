#include "model/refactored/channel_masks.h"

#include <algorithm>
#include <cstring>

#include "compute/source.h"
#include "model/checkpoint/torch_file.h"

namespace pregate::model {
namespace {

using compute::SourceMatrix;

constexpr std::string_view kShared = "residual";

/// The elements of a mask as numbers, whatever type they were saved in.
Result<std::vector<float>> read_values(const TorchTensor& tensor, const std::string& where) {
  PREGATE_ASSIGN(const std::span<const std::byte> bytes, contiguous_data(tensor, where));
  std::vector<float> values(tensor.shape.front());
  if (tensor.element_bytes == 1) {
    std::ranges::transform(bytes, values.begin(),
                           [](std::byte byte) { return static_cast<float>(byte); });
    return values;
  }
  const auto dtype = weight_dtype(tensor.dtype);
  if (!dtype) {
    return fail(ErrorCode::kDataLoss, "{}: dtype {}, expected BOOL, U8, F16, BF16 or F32", where,
                tensor.dtype);
  }
  const Status read =
      compute::read_row({bytes.data(), *dtype, 1, values.size()}, 0, std::span(values));
  if (!read) return fail(in_context(read.error(), where));
  return values;
}

/// Reads one layer's entry: {"residual": mask, 0: mask, 1: mask, ...}.
class LayerReader {
 public:
  LayerReader(const TorchDict& dict, std::string where, size_t num_channels)
      : dict_(dict), where_(std::move(where)), num_channels_(num_channels) {}

  Result<LayerChannels> read(size_t num_experts) const {
    if (dict_.items.size() != num_experts + 1) {
      return fail(ErrorCode::kDataLoss,
                  "{}: {} masks, expected \"residual\" and one for each of {} experts (N_cluster)",
                  where_, dict_.items.size(), num_experts);
    }
    LayerChannels channels;
    PREGATE_ASSIGN(channels.shared, mask(kShared));
    for (size_t e = 0; e < num_experts; ++e) {
      PREGATE_ASSIGN(std::vector<uint32_t> own, mask(static_cast<int64_t>(e)));
      PREGATE_TRY(check(own, channels.shared, e));
      channels.own.push_back(std::move(own));
    }
    return channels;
  }

 private:
  Result<std::vector<uint32_t>> mask(const TorchKey& key) const {
    const std::string where = fmt::format("{}: mask {}", where_, to_string(key));
    const TorchValue* value = dict_.find(key);
    const TorchTensor* tensor = value == nullptr ? nullptr : value->tensor();
    if (tensor == nullptr) {
      return fail(ErrorCode::kDataLoss, "{}: {}, expected a tensor", where,
                  value == nullptr ? "missing" : value->kind());
    }
    if (tensor->shape != std::vector{num_channels_}) {
      return fail(ErrorCode::kDataLoss, "{}: shape [{}], expected [{}] (intermediate_size)", where,
                  fmt::join(tensor->shape, ", "), num_channels_);
    }
    PREGATE_ASSIGN(const std::vector<float> values, read_values(*tensor, where));
    std::vector<uint32_t> channels;
    for (uint32_t channel = 0; channel < values.size(); ++channel) {
      if (values[channel] != 0.0f && values[channel] != 1.0f) {
        return fail(ErrorCode::kDataLoss, "{}: {} at channel {}, expected 0 or 1", where,
                    values[channel], channel);
      }
      if (values[channel] == 1.0f) channels.push_back(channel);
    }
    return channels;
  }

  Status check(const std::vector<uint32_t>& own, const std::vector<uint32_t>& shared,
               size_t expert) const {
    if (own.empty()) {
      return fail(ErrorCode::kDataLoss, "{}: mask {}: all zero, expected channels", where_, expert);
    }
    std::vector<uint32_t> both;
    std::ranges::set_intersection(own, shared, std::back_inserter(both));
    if (both.empty()) return {};
    return fail(ErrorCode::kDataLoss,
                "{}: mask {}: has channel {}, which \"residual\" has too: it would count twice",
                where_, expert, both.front());
  }

  const TorchDict& dict_;
  const std::string where_;
  const size_t num_channels_;
};

}  // namespace

Result<std::shared_ptr<const ChannelMasks>> ChannelMasks::read(const std::filesystem::path& path,
                                                               const ModelConfig& config) {
  PREGATE_ASSIGN(const TorchFile file, TorchFile::open(path));
  const TorchDict* root = file.root().dict();
  if (root == nullptr) {
    return fail(ErrorCode::kDataLoss, "{}: {}, expected a dict of layers", path.string(),
                file.root().kind());
  }
  std::vector<LayerChannels> layers;
  for (size_t l = 0; l < config.num_layers(); ++l) {
    const std::string key = fmt::format("module.model.layers.{}.mlp.down_proj", l);
    const std::string where = fmt::format("{}: {}", path.string(), key);
    const TorchValue* value = root->find(std::string_view(key));
    const TorchDict* dict = value == nullptr ? nullptr : value->dict();
    if (dict == nullptr) {
      return fail(ErrorCode::kDataLoss, "{}: {}, expected a dict of masks", where,
                  value == nullptr ? "missing" : value->kind());
    }
    const LayerReader reader(*dict, where, config.layers[l].intermediate_size);
    PREGATE_ASSIGN(LayerChannels channels, reader.read(config.num_experts));
    layers.push_back(std::move(channels));
  }
  return std::make_shared<const ChannelMasks>(std::move(layers));
}

std::vector<std::byte> gather_rows(const SourceMatrix& matrix,
                                   const std::vector<uint32_t>& channels) {
  const size_t row_bytes = matrix.cols * compute::dtype_bytes(matrix.dtype);
  std::vector<std::byte> out(channels.size() * row_bytes);
  for (size_t i = 0; i < channels.size(); ++i) {
    std::memcpy(out.data() + i * row_bytes, matrix.data + channels[i] * row_bytes, row_bytes);
  }
  return out;
}

std::vector<std::byte> gather_columns(const SourceMatrix& matrix,
                                      const std::vector<uint32_t>& channels) {
  const size_t element_bytes = compute::dtype_bytes(matrix.dtype);
  std::vector<std::byte> out(matrix.rows * channels.size() * element_bytes);
  std::byte* next = out.data();
  for (size_t row = 0; row < matrix.rows; ++row) {
    for (const uint32_t channel : channels) {
      std::memcpy(next, matrix.data + (row * matrix.cols + channel) * element_bytes, element_bytes);
      next += element_bytes;
    }
  }
  return out;
}

}  // namespace pregate::model
