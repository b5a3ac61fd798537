#include "model/tokenizer/bpe.h"

#include <algorithm>
#include <queue>

#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

/// A word while its symbols merge: a linked list in an array, where a merge keeps the left place.
class MergeList {
 public:
  MergeList(const std::vector<TokenId>& symbols, const PairMap& merges) : merges_(merges) {
    const auto length = static_cast<int32_t>(symbols.size());
    nodes_.reserve(symbols.size());
    for (int32_t i = 0; i < length; ++i) {
      nodes_.push_back({symbols[static_cast<size_t>(i)], i - 1, i + 1 < length ? i + 1 : kNone});
    }
    for (int32_t i = 0; i + 1 < length; ++i) push_candidate(i);
  }

  /// Always the pair of lowest rank, the leftmost among equals, until no pair merges.
  void merge_all() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const Node& left = nodes_[static_cast<size_t>(top.position)];
      if (left.token == kMergedAway || left.next == kNone) continue;
      const Merge* merge = merges_.find(left.token, node(left.next).token);
      if (merge == nullptr || merge->rank != top.rank) continue;  // a side has changed since
      merge_at(top.position, merge->merged);
    }
  }

  void append_to(std::vector<TokenId>& ids) const {
    for (int32_t i = nodes_.empty() ? kNone : 0; i != kNone;) {
      ids.push_back(nodes_[static_cast<size_t>(i)].token);
      i = nodes_[static_cast<size_t>(i)].next;
    }
  }

 private:
  static constexpr int32_t kNone = -1;
  static constexpr TokenId kMergedAway = -1;

  struct Node {
    TokenId token;
    int32_t previous;
    int32_t next;
  };
  struct Candidate {
    uint32_t rank;
    int32_t position;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };

  Node& node(int32_t i) { return nodes_[static_cast<size_t>(i)]; }

  void push_candidate(int32_t position) {
    const Node& left = node(position);
    if (left.next == kNone) return;
    const Merge* merge = merges_.find(left.token, node(left.next).token);
    if (merge != nullptr) queue_.push({merge->rank, position});
  }

  void merge_at(int32_t position, TokenId merged) {
    Node& left = node(position);
    Node& right = node(left.next);
    left.token = merged;
    left.next = right.next;
    right.token = kMergedAway;
    if (left.next != kNone) node(left.next).previous = position;
    if (left.previous != kNone) push_candidate(left.previous);
    push_candidate(position);
  }

  const PairMap& merges_;
  std::vector<Node> nodes_;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue_;
};

}  // namespace

void Bpe::encode_word(std::string_view word, std::vector<TokenId>& ids) const {
  if (word.empty()) return;
  if (ignores_merges_) {
    if (const std::optional<TokenId> id = token_to_id(word)) return ids.push_back(*id);
  }
  thread_local std::vector<TokenId> symbols;
  symbols.clear();
  append_symbols(word, symbols);
  MergeList list(symbols, merges_);
  list.merge_all();
  list.append_to(ids);
}

void Bpe::append_symbols(std::string_view word, std::vector<TokenId>& symbols) const {
  std::string buffer;
  bool unknown_pending = false;
  const auto flush_unknown = [&] {
    if (unknown_pending) symbols.push_back(*unknown_);
    unknown_pending = false;
  };
  for (size_t pos = 0; pos < word.size();) {
    const size_t length_bytes = code_point_at(word, pos).length_bytes;
    std::string_view symbol = word.substr(pos, length_bytes);
    const bool is_first = pos == 0;
    pos += length_bytes;
    const bool is_last = pos == word.size();
    if (!(is_first || continuing_subword_prefix_.empty()) ||
        (is_last && !end_of_word_suffix_.empty())) {
      buffer = is_first ? "" : continuing_subword_prefix_;
      buffer += symbol;
      if (is_last) buffer += end_of_word_suffix_;
      symbol = buffer;
    }
    if (const std::optional<TokenId> id = token_to_id(symbol)) {
      flush_unknown();
      symbols.push_back(*id);
      continue;
    }
    // As in the reference, an unknown symbol that waits to be fused stays behind the bytes.
    if (append_bytes(symbol, symbols) || !unknown_) continue;
    if (!fuses_unknown_) flush_unknown();
    unknown_pending = true;
  }
  flush_unknown();
}

/// All the bytes of a symbol as "<0x..>" tokens, or nothing if one of those is missing.
bool Bpe::append_bytes(std::string_view symbol, std::vector<TokenId>& symbols) const {
  const auto token_of = [this](char byte) { return byte_tokens_[static_cast<uint8_t>(byte)]; };
  const auto exists = [&](char byte) { return token_of(byte).has_value(); };
  if (!std::all_of(symbol.begin(), symbol.end(), exists)) return false;
  for (const char byte : symbol) symbols.push_back(*token_of(byte));
  return true;
}

std::optional<TokenId> Bpe::token_to_id(std::string_view token) const {
  const auto entry = vocab_.find(token);
  if (entry == vocab_.end()) return std::nullopt;
  return entry->second;
}

const std::string* Bpe::id_to_token(TokenId id) const {
  const auto index = static_cast<size_t>(id);
  return id >= 0 && index < tokens_.size() ? tokens_[index] : nullptr;
}

}  // namespace pregate::model
