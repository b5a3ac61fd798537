// A small random model in a temporary directory, and an engine that runs it.
#pragma once

#include <filesystem>

#include <gtest/gtest.h>

#include "base/random.h"
#include "cli/model_runtime.h"
#include "model/synthetic/make_model.h"

namespace pregate::test_support {

/// Removes itself.
class TemporaryDirectory {
 public:
  TemporaryDirectory()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("pregate_test_{:x}", seed_from_system())) {
    std::filesystem::create_directories(path_);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  const std::filesystem::path path_;
};

/// Two layers of eight experts: small enough for the reference back end.
inline void write_tiny_model(const std::filesystem::path& directory, const std::string& family) {
  const model::SyntheticOptions options{.family = family,
                                        .num_layers = 2,
                                        .hidden_size = 64,
                                        .num_heads = 4,
                                        .num_kv_heads = 2,
                                        .head_dim = 16,
                                        .num_experts = 8,
                                        .top_k = 2,
                                        .expert_intermediate_size = 48,
                                        .vocab_size = 300,
                                        .max_position = 512,
                                        .seed = 5};
  const Status written = model::make_model(directory, options, {});
  ASSERT_TRUE(written.has_value()) << written.error().message;
}

}  // namespace pregate::test_support
