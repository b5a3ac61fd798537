// The checkpoints under tests/golden/data and what transformers answers for them; written by
// make_golden.py, which says what the files hold.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/ids.h"
#include "model/checkpoint/safetensors.h"

namespace pregate::golden {

struct GoldenPrompt {
  std::vector<TokenId> ids;     // [n]
  std::vector<float> logits;    // [n, vocab], of all positions
  std::vector<TokenId> greedy;  // the tokens that follow
  size_t vocab_size = 0;
};

struct GoldenCase {
  std::string name;
  std::filesystem::path directory;  // a checkpoint
  std::vector<GoldenPrompt> prompts;
};

inline std::filesystem::path golden_directory() {
  return std::filesystem::path(PREGATE_SOURCE_DIR) / "tests/golden/data";
}

/// An f32 or i32 tensor of a file of ours. T is float or int32_t.
template <typename T>
std::vector<T> golden_tensor(const model::TensorFile& file, const std::string& name) {
  const auto data = file.data(file.tensors().at(name));
  std::vector<T> values(data.size() / sizeof(T));
  std::memcpy(values.data(), data.data(), values.size() * sizeof(T));
  return values;
}

/// The checkpoint lies beside the answers, or in a folder of its own where safetensors beside it
/// would be taken for weights.
inline GoldenCase load_golden_case(const std::filesystem::path& directory) {
  GoldenCase result{.name = directory.filename().string(), .directory = directory, .prompts = {}};
  if (const auto own = directory / "checkpoint"; std::filesystem::exists(own)) {
    result.directory = own;
  }
  const auto file = model::open_safetensors(directory / "golden.safetensors").value();
  for (size_t i = 0;; ++i) {
    const std::string prefix = "prompt." + std::to_string(i);
    if (!file.tensors().contains(prefix + ".ids")) return result;
    result.prompts.push_back({.ids = golden_tensor<TokenId>(file, prefix + ".ids"),
                              .logits = golden_tensor<float>(file, prefix + ".logits"),
                              .greedy = golden_tensor<TokenId>(file, prefix + ".greedy"),
                              .vocab_size = file.tensors().at(prefix + ".logits").shape[1]});
  }
}

/// All cases, by name.
inline std::vector<GoldenCase> load_golden_cases() {
  std::vector<GoldenCase> cases;
  for (const auto& entry : std::filesystem::directory_iterator(golden_directory())) {
    if (!std::filesystem::exists(entry.path() / "golden.safetensors")) continue;
    cases.push_back(load_golden_case(entry.path()));
  }
  std::sort(cases.begin(), cases.end(),
            [](const GoldenCase& a, const GoldenCase& b) { return a.name < b.name; });
  return cases;
}

}  // namespace pregate::golden
