// A model family: how its config.json is spelled and what its tensors are called. What a family
// computes is in ModelConfig; the engine knows no family.
//
// Adding one: a folder beside this file, and a line in registry.cc and in model/CMakeLists.txt.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/checkpoint/field_reader.h"
#include "model/config.h"
#include "model/families/tensors.h"

namespace pregate::model {

class TensorFiles;  // model/checkpoint/tensor_files.h

/// Stateless; lives as long as the program.
class Family {
 public:
  virtual ~Family() = default;
  /// As in "architectures" and "model_type" of config.json.
  virtual std::string_view architecture() const = 0;
  virtual std::string_view model_type() const = 0;

  /// From config.json as transformers 4 or 5 writes it. Attributes that are absent take the
  /// family's documented default. Errors name file and field.
  virtual Result<ModelConfig> parse_config(FieldReader fields) const = 0;
  /// What parse_config() reads, in the spelling of transformers 4, which version 5 reads as well.
  virtual boost::json::object write_config(const ModelConfig& config) const = 0;

  /// Fills in what only the tensors say. Called once, after all else was read.
  virtual Status complete_config(const std::filesystem::path& /*directory*/,
                                 const TensorFiles& /*files*/, ModelConfig& /*config*/) const {
    return {};
  }

  /// The name in a checkpoint. This is the naming most families share.
  virtual std::string tensor_name(const TensorId& id) const;
};

/// All families, in the order they are listed to the user.
std::span<const Family* const> families();

}  // namespace pregate::model
