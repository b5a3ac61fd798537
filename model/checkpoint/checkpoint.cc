#include "model/checkpoint/checkpoint.h"

#include "model/checkpoint/field_reader.h"
#include "model/checkpoint/tensor_files.h"
#include "model/families/family.h"

namespace pregate::model {
namespace {

namespace fs = std::filesystem;

/// By "architectures", or by "model_type" where that is missing.
Result<const Family*> choose_family(FieldReader fields) {
  const std::vector<std::string> architectures = fields.texts("architectures");
  const std::string model_type = fields.text("model_type", "");
  PREGATE_TRY(fields.status());
  std::vector<std::string_view> known;
  for (const Family* family : families()) {
    known.push_back(family->architecture());
    if (architectures.empty() ? family->model_type() == model_type
                              : family->architecture() == architectures.front()) {
      return family;
    }
  }
  return fail(ErrorCode::kUnimplemented, "{}: architectures: unknown family \"{}\"; known: {}",
              fields.where(), architectures.empty() ? model_type : architectures.front(),
              fmt::join(known, ", "));
}

SamplingDefaults read_sampling_defaults(FieldReader& fields) {
  const auto number = [&](std::string_view key, double max, bool above_zero) {
    const std::optional<double> value = fields.optional_number(key);
    if (value && (*value < 0.0 || *value > max || (above_zero && *value == 0.0))) {
      fields.reject(
          key, fmt::format("a number {} {}", above_zero ? "above 0, at most" : "from 0 to", max));
    }
    return value;
  };
  SamplingDefaults defaults{.temperature = number("temperature", 2.0, false),
                            .top_p = number("top_p", 1.0, true),
                            .min_p = number("min_p", 1.0, false),
                            .repetition_penalty = number("repetition_penalty", 1e6, true)};
  if (fields.has("top_k")) defaults.top_k = fields.size("top_k", 0, {.min = 0});
  return defaults;
}

/// bos and eos of config.json are what a family falls back to; generation_config.json, if there is
/// one, has the last word. Ids beyond the vocabulary can never be generated and are left out.
Status read_generation_config(const fs::path& path, ModelConfig& config) {
  if (fs::exists(path)) {
    PREGATE_ASSIGN(boost::json::object object, read_json_object(path));
    FieldReader fields(std::move(object), path.string());
    const std::vector<TokenId> eos = fields.token_ids("eos_token_id");
    const std::vector<TokenId> bos = fields.token_ids("bos_token_id");
    config.sampling = read_sampling_defaults(fields);
    PREGATE_TRY(fields.status());
    if (!eos.empty()) config.eos_tokens = eos;
    if (!bos.empty()) config.bos_token = bos.front();
  }
  std::erase_if(config.eos_tokens, [&](TokenId id) { return size_t(id) >= config.vocab_size; });
  if (config.bos_token >= 0 && size_t(config.bos_token) >= config.vocab_size) config.bos_token = -1;
  return {};
}

class DirectoryCheckpoint final : public Checkpoint {
 public:
  DirectoryCheckpoint(fs::path directory, ModelConfig config, const Family& family,
                      TensorFiles files)
      : directory_(std::move(directory)),
        config_(std::move(config)),
        family_(family),
        files_(std::move(files)) {}

  const fs::path& directory() const override { return directory_; }
  const ModelConfig& config() const override { return config_; }
  const Family& family() const override { return family_; }
  bool has_tensor(const std::string& name) const override {
    return files_.tensors().contains(name);
  }

  Result<TensorView> tensor(const std::string& name) const override {
    PREGATE_ASSIGN(TensorView tensor, unscaled(name));
    if (tensor.dtype == compute::DType::kF8) PREGATE_TRY(add_scales(tensor, name));
    return tensor;
  }

  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& item : files_.tensors()) names.push_back(item.first);
    return names;
  }

  Status check_unchanged(const TensorView& tensor) const override {
    PREGATE_TRY(check_unchanged(tensor.file));
    return tensor.scales_file.empty() ? Status() : check_unchanged(tensor.scales_file);
  }
  Status check_unchanged(std::string_view path) const {
    const TensorFile* file = file_of(path);
    if (file == nullptr) return {};
    const auto identity = identify_file(file->path());
    if (identity && *identity == file->file().identity()) return {};
    if (!identity && identity.error().code != ErrorCode::kNotFound) return fail(identity.error());
    return fail(ErrorCode::kDataLoss,
                "{}: {} since this process opened it; start it again to use what is there now",
                file->path().string(),
                identity ? fmt::format("was replaced or written to ({} bytes, then {})",
                                       identity->size_bytes, file->file().identity().size_bytes)
                         : "was removed");
  }

  void drop(const TensorView& tensor) const override {
    if (const TensorFile* file = file_of(tensor.file)) {
      file->file().drop(tensor.file_offset, tensor.bytes);
    }
  }

 private:
  Result<TensorView> unscaled(const std::string& name) const {
    const auto found = files_.tensors().find(name);
    if (found == files_.tensors().end()) {
      return fail(ErrorCode::kNotFound, "{}: no tensor {}", directory_.string(), name);
    }
    const auto& [file, entry] = found->second;
    const auto dtype = weight_dtype(entry->dtype);
    if (!dtype) {
      return fail(ErrorCode::kDataLoss, "{}: {}: dtype {}, expected F32, BF16, F16 or F8_E4M3",
                  file->path().string(), name, entry->dtype);
    }
    const auto data = file->data(*entry);
    return TensorView{.data = data.data(),
                      .dtype = *dtype,
                      .shape = entry->shape,
                      .bytes = data.size(),
                      .file = file->path().native(),
                      .file_offset = entry->begin_bytes};
  }

  /// X.weight has its scales in X.weight_scale_inv, which it is multiplied with in spite of that
  /// name.
  Status add_scales(TensorView& tensor, const std::string& name) const {
    const auto& quantization = config_.quantization;
    if (!quantization || tensor.shape.size() != 2) {
      return fail(ErrorCode::kDataLoss, "{}: {}: F8_E4M3 {}", tensor.file, name,
                  quantization ? fmt::format("of shape [{}], expected a matrix",
                                             fmt::join(tensor.shape, ", "))
                               : "without a quantization_config in config.json");
    }
    const auto [block_rows, block_cols] = *quantization;
    PREGATE_ASSIGN(const TensorView scales, unscaled(name + "_scale_inv"));
    const std::vector<size_t> expected{(tensor.shape[0] + block_rows - 1) / block_rows,
                                       (tensor.shape[1] + block_cols - 1) / block_cols};
    if (scales.shape == expected && scales.dtype != compute::DType::kF8) {
      tensor.scales = {scales.data, scales.dtype, block_rows, block_cols};
      tensor.scales_file = scales.file;
      return {};
    }
    return fail(ErrorCode::kDataLoss,
                "{}: {}_scale_inv: shape [{}], expected [{}] of F32, BF16 or F16 for blocks of "
                "[{}, {}]",
                scales.file, name, fmt::join(scales.shape, ", "), fmt::join(expected, ", "),
                block_rows, block_cols);
  }

  /// Null if it is not of this checkpoint.
  const TensorFile* file_of(std::string_view path) const {
    for (const TensorFile& file : files_.files()) {
      if (path == file.path().native()) return &file;
    }
    return nullptr;
  }

  const fs::path directory_;
  const ModelConfig config_;
  const Family& family_;
  const TensorFiles files_;
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> Checkpoint::open(const fs::path& directory) {
  try {
    const fs::path config_path = directory / "config.json";
    PREGATE_ASSIGN(boost::json::object object, read_json_object(config_path));
    FieldReader fields(std::move(object), config_path.string());
    PREGATE_ASSIGN(const Family* family, choose_family(fields));
    PREGATE_ASSIGN(ModelConfig config, family->parse_config(fields));
    PREGATE_TRY(read_generation_config(directory / "generation_config.json", config));
    PREGATE_ASSIGN(TensorFiles files, TensorFiles::open(directory));
    PREGATE_TRY(family->complete_config(directory, files, config));
    return std::make_shared<DirectoryCheckpoint>(directory, std::move(config), *family,
                                                 std::move(files));
  } catch (const std::exception& error) {  // std::filesystem's, chiefly
    return fail(ErrorCode::kUnavailable, "{}: {}", directory.string(), error.what());
  }
}

}  // namespace pregate::model
