#include "model/tokenizer/bpe.h"

#include <algorithm>
#include <functional>

#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

constexpr int32_t kNoCharacter = -1;

/// A word while its symbols merge: a linked list in an array, where a merge keeps the left place,
/// and a heap of the pairs that could merge. Kept from word to word for its memory.
class MergeList {
 public:
  /// Merges always the pair of lowest rank, the leftmost among equals, until no pair merges, and
  /// appends what remains.
  void merge(std::span<const BpeSymbol> symbols, const BpeMerges& merges,
             std::vector<TokenId>& ids) {
    merges_ = &merges;
    reset(symbols);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const Candidate top = heap_.back();
      heap_.pop_back();
      const Node& left = node(position_of(top));
      if (left.token == kMergedAway || left.next == kNone) continue;
      const BpeMerge* merge = merges.find(left.token, node(left.next).token);
      if (merge == nullptr || merge->rank != rank_of(top)) continue;  // a side has changed since
      merge_at(position_of(top), merge->merged);
    }
    for (int32_t i = nodes_.empty() ? kNone : 0; i != kNone; i = node(i).next) {
      ids.push_back(node(i).token);
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
  /// Rank above position, so that the smallest is merged first.
  using Candidate = uint64_t;
  static uint32_t rank_of(Candidate candidate) { return static_cast<uint32_t>(candidate >> 32); }
  static int32_t position_of(Candidate candidate) { return static_cast<int32_t>(candidate); }

  Node& node(int32_t i) { return nodes_[static_cast<size_t>(i)]; }

  void reset(std::span<const BpeSymbol> symbols) {
    const auto length = static_cast<int32_t>(symbols.size());
    nodes_.clear();
    heap_.clear();
    for (int32_t i = 0; i < length; ++i) {
      nodes_.push_back(
          {symbols[static_cast<size_t>(i)].token, i - 1, i + 1 < length ? i + 1 : kNone});
    }
    for (int32_t i = 0; i + 1 < length; ++i) add_candidate(i);
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  bool add_candidate(int32_t position) {
    const Node& left = node(position);
    if (left.next == kNone) return false;
    const BpeMerge* merge = merges_->find(left.token, node(left.next).token);
    if (merge == nullptr) return false;
    heap_.push_back((static_cast<Candidate>(merge->rank) << 32) | static_cast<uint32_t>(position));
    return true;
  }
  void push_candidate(int32_t position) {
    if (add_candidate(position)) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
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

  const BpeMerges* merges_ = nullptr;
  std::vector<Node> nodes_;
  std::vector<Candidate> heap_;
};

}  // namespace

void Bpe::encode_word(std::string_view word, std::vector<TokenId>& ids) const {
  if (word.empty()) return;
  if (ignores_merges_) {
    if (const std::optional<TokenId> id = token_to_id(word)) return ids.push_back(*id);
  }
  thread_local std::vector<BpeSymbol> symbols;
  symbols.clear();
  append_symbols(word, symbols);
  thread_local MergeList list;
  for (size_t begin = 0; begin < symbols.size();) {
    const size_t end = segment_end(symbols, begin);
    list.merge(std::span(symbols).subspan(begin, end - begin), merges_, ids);
    begin = end;
  }
}

/// Where the symbols from `begin` on can be cut without changing the outcome.
size_t Bpe::segment_end(std::span<const BpeSymbol> symbols, size_t begin) const {
  constexpr size_t kShort = 16;  // looking for a cut costs more than it saves
  if (!has_joinable_ || symbols.size() <= kShort) return symbols.size();
  size_t end = begin + 1;
  while (end < symbols.size() && symbols[end - 1].character >= 0 && symbols[end].character >= 0 &&
         joinable_.find(symbols[end - 1].character, symbols[end].character) != nullptr) {
    ++end;
  }
  return end;
}

void Bpe::append_symbols(std::string_view word, std::vector<BpeSymbol>& symbols) const {
  std::string buffer;
  bool unknown_pending = false;
  const auto flush_unknown = [&] {
    if (unknown_pending) symbols.push_back({*unknown_, kNoCharacter});
    unknown_pending = false;
  };
  for (size_t pos = 0; pos < word.size();) {
    const CodePoint c = code_point_at(word, pos);
    std::string_view symbol = word.substr(pos, c.length_bytes);
    const bool is_first = pos == 0;
    pos += c.length_bytes;
    const bool is_last = pos == word.size();
    if (c.value < frequent_symbols_.size() && frequent_symbols_[c.value] != kNoSymbol) {
      flush_unknown();
      symbols.push_back({frequent_symbols_[c.value], static_cast<int32_t>(c.value)});
      continue;
    }
    if (!(is_first || continuing_subword_prefix_.empty()) ||
        (is_last && !end_of_word_suffix_.empty())) {
      buffer = is_first ? "" : continuing_subword_prefix_;
      buffer += symbol;
      if (is_last) buffer += end_of_word_suffix_;
      symbol = buffer;
    }
    if (const std::optional<TokenId> id = token_to_id(symbol)) {
      flush_unknown();
      symbols.push_back({*id, static_cast<int32_t>(c.value)});
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
bool Bpe::append_bytes(std::string_view symbol, std::vector<BpeSymbol>& symbols) const {
  const auto token_of = [this](char byte) { return byte_tokens_[static_cast<uint8_t>(byte)]; };
  const auto exists = [&](char byte) { return token_of(byte).has_value(); };
  if (!std::all_of(symbol.begin(), symbol.end(), exists)) return false;
  for (const char byte : symbol) symbols.push_back({*token_of(byte), kNoCharacter});
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
