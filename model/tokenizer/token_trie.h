// Finds the longest of many strings at a place in a text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "model/tokenizer/regex.h"

namespace pregate::model {

/// Thread-safe to read.
class TokenTrie {
 public:
  struct Match {
    ByteRange range;
    TokenId token;
  };

  /// A string inserted again keeps the later token; an empty one is never found.
  void insert(std::string_view text, TokenId token);
  bool empty() const { return nodes_.size() == 1; }

  /// The leftmost match that begins at `pos` or later; of those with the same beginning the
  /// longest.
  std::optional<Match> find(std::string_view text, size_t pos) const;

 private:
  using NodeIdx = uint32_t;
  struct Node {
    std::unordered_map<char, NodeIdx> children;
    TokenId token = -1;  // of the string that ends here
  };

  std::optional<Match> longest_at(std::string_view text, size_t begin) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);  // [0] is the root
  std::array<bool, 256> is_first_byte_{};
};

}  // namespace pregate::model
