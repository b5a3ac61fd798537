// A model directory as Hugging Face lays it out: config.json, *.safetensors or pytorch_model*.bin,
// generation_config.json.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compute/types.h"
#include "model/config.h"

namespace pregate::model {

class Family;  // model/families/family.h

/// A tensor where it lies in a mapped file; valid while the Checkpoint lives.
struct TensorView {
  const std::byte* data = nullptr;
  compute::DType dtype = compute::DType::kF32;
  std::vector<size_t> shape;
  size_t bytes = 0;
  std::string_view file;              ///< Its path.
  size_t file_offset = 0;             ///< Where it begins in there.
  compute::BlockScales scales = {};   ///< Of a matrix of 8-bit numbers; in a mapped file too.
  std::string_view scales_file = {};  ///< Its path; empty: there are none.
};

/// Immutable after open(); thread-safe.
class Checkpoint {
 public:
  /// Reads the config and the headers of the weight files, not the weights. Errors name file and
  /// field or tensor.
  static Result<std::shared_ptr<const Checkpoint>> open(const std::filesystem::path& directory);
  virtual ~Checkpoint() = default;

  virtual const std::filesystem::path& directory() const = 0;
  virtual const ModelConfig& config() const = 0;
  virtual const Family& family() const = 0;
  virtual bool has_tensor(const std::string& name) const = 0;
  /// kNotFound if there is none of that name; kDataLoss if it is of a type that no weight may have,
  /// or of 8-bit numbers without scales that fit.
  virtual Result<TensorView> tensor(const std::string& name) const = 0;
  virtual std::vector<std::string> tensor_names() const = 0;
  /// kDataLoss if the tensor's file, or that of its scales, was replaced or written to since it was
  /// opened, so that it may hold another model; kUnavailable if that cannot be found out.
  virtual Status check_unchanged(const TensorView& /*tensor*/) const { return {}; }
  /// Takes the pages of a tensor out of memory once it is packed; they are read again when touched.
  virtual void drop(const TensorView& tensor) const = 0;
};

}  // namespace pregate::model
