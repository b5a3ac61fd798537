// Steps of made-up sequences, for what reads steps without an engine.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "router/router.h"

namespace pregate::test_support {

/// The rows of one step. What it holds must not change while a view of it is used.
class StepRows {
 public:
  /// tokens at first_position and after; of block b + position / 16, where b is the first block.
  void add(std::span<const TokenId> tokens, size_t first_position, uint32_t first_block) {
    sequences_.push_back({tokens_.size(), tokens.size(), first_position, {}});
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    const size_t end = first_position + tokens.size();
    for (size_t p = first_position; p < end; ++p) positions_.push_back(static_cast<uint32_t>(p));
    lengths_.insert(lengths_.end(), tokens.size(), static_cast<uint32_t>(end));
    std::vector<uint32_t>& blocks = blocks_.emplace_back();
    for (size_t p = 0; p < end; p += compute::kKvBlockTokens) {
      blocks.push_back(first_block + static_cast<uint32_t>(blocks.size()));
    }
  }

  router::StepTokens view() {
    for (size_t s = 0; s < sequences_.size(); ++s) sequences_[s].blocks = blocks_[s];
    return {tokens_, positions_, lengths_, sequences_};
  }
  size_t num_rows() const { return tokens_.size(); }

 private:
  std::vector<TokenId> tokens_;
  std::vector<uint32_t> positions_, lengths_;
  std::vector<compute::SequenceRows> sequences_;
  std::vector<std::vector<uint32_t>> blocks_;
};

/// Row after row, all with the same gates.
inline router::Decisions decide(size_t top_k, const std::vector<uint32_t>& experts) {
  router::Decisions decisions{.top_k = top_k};
  for (const uint32_t expert : experts) decisions.expert_ids.push_back(ExpertId(expert));
  decisions.gates.assign(experts.size(), 1.0f / static_cast<float>(top_k));
  return decisions;
}

/// "layer:expert@when", with "!" where it is certain.
inline std::vector<std::string> words_of(const router::Plan& plan) {
  std::vector<std::string> words;
  for (const auto& [layer, expert, when, certain, likelihood] : plan) {
    words.push_back(fmt::format("{}:{}@{}{}", layer, expert, when, certain ? "!" : ""));
  }
  return words;
}

}  // namespace pregate::test_support
