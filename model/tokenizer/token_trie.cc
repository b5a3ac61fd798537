#include "model/tokenizer/token_trie.h"

namespace pregate::model {

void TokenTrie::insert(std::string_view text, TokenId token) {
  if (text.empty()) return;
  is_first_byte_[static_cast<uint8_t>(text[0])] = true;
  NodeIdx node = 0;
  for (const char byte : text) {
    const auto [child, is_new] =
        nodes_[node].children.try_emplace(byte, static_cast<NodeIdx>(nodes_.size()));
    node = child->second;
    if (is_new) nodes_.emplace_back();
  }
  nodes_[node].token = token;
}

std::optional<TokenTrie::Match> TokenTrie::find(std::string_view text, size_t pos) const {
  if (empty()) return std::nullopt;
  for (size_t begin = pos; begin < text.size(); ++begin) {
    if (!is_first_byte_[static_cast<uint8_t>(text[begin])]) continue;
    if (const std::optional<Match> match = longest_at(text, begin)) return match;
  }
  return std::nullopt;
}

std::optional<TokenTrie::Match> TokenTrie::longest_at(std::string_view text, size_t begin) const {
  std::optional<Match> longest;
  NodeIdx node = 0;
  for (size_t end = begin; end < text.size();) {
    const auto child = nodes_[node].children.find(text[end]);
    if (child == nodes_[node].children.end()) break;
    node = child->second;
    ++end;
    if (nodes_[node].token >= 0) longest = Match{{begin, end}, nodes_[node].token};
  }
  return longest;
}

}  // namespace pregate::model
