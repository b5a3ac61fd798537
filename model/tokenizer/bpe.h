// Byte-pair encoding: the "model" of tokenizer.json.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "model/tokenizer/json_field.h"
#include "model/tokenizer/pair_table.h"

namespace pregate::model {

/// Ids at or above this are taken for a damaged file (the largest vocabularies have 2^18).
inline constexpr uint32_t kTokenIdLimit = 1U << 22;

struct BpeMerge {
  uint32_t rank;  ///< Lower merges first.
  TokenId merged;
};
using BpeMerges = PairTable<BpeMerge>;

/// What a word is made of before any merge.
struct BpeSymbol {
  TokenId token;
  int32_t character;  ///< The code point; negative for a byte token or the unknown token.
};

/// Immutable after load; thread-safe.
class Bpe {
 public:
  static Result<Bpe> from_json(const JsonField& field);

  /// Appends the tokens of one word. Time is n log n in its length.
  void encode_word(std::string_view word, std::vector<TokenId>& ids) const;

  std::optional<TokenId> token_to_id(std::string_view token) const;
  /// Null for an id that is not in the vocabulary.
  const std::string* id_to_token(TokenId id) const;
  /// Number of tokens, which is not more than the largest id plus one.
  size_t num_tokens() const { return vocab_.size(); }
  /// One more than the largest id.
  size_t id_end() const { return tokens_.size(); }

 private:
  struct StringHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Vocab = std::unordered_map<std::string, TokenId, StringHash, std::equal_to<>>;

  Bpe() = default;
  Status read_options(const JsonField& field);
  Status read_vocab(const JsonField& field);
  Status read_merges(const JsonField& field);
  void add_joinable(std::string_view left, std::string_view right);
  bool is_plain(std::string_view token) const;
  Status add_merge(const JsonField& field, uint32_t rank, std::string_view left,
                   std::string_view right);
  void find_byte_tokens();
  void find_frequent_symbols();

  void append_symbols(std::string_view word, std::vector<BpeSymbol>& symbols) const;
  bool append_bytes(std::string_view symbol, std::vector<BpeSymbol>& symbols) const;
  size_t segment_end(std::span<const BpeSymbol> symbols, size_t begin) const;

  Vocab vocab_;
  std::vector<const std::string*> tokens_;  // by id, into vocab_; null where there is none
  BpeMerges merges_;
  struct Nothing {};
  // Pairs of characters that some merge brings together. Between any other two characters no token
  // can form, so a long word (a whole text, in Llama's style) falls into short parts.
  PairTable<Nothing> joinable_;
  bool has_joinable_ = true;  // false: the table cannot be relied on, words stay whole
  std::string continuing_subword_prefix_;
  std::string end_of_word_suffix_;
  std::optional<TokenId> unknown_;
  std::array<std::optional<TokenId>, 256> byte_tokens_;  // "<0x00>" ...; all empty if not used
  // Tokens of single characters below U+0800, found without hashing; empty where a prefix or suffix
  // makes the token depend on the place.
  static constexpr TokenId kNoSymbol = -1;
  std::vector<TokenId> frequent_symbols_;
  bool fuses_unknown_ = false;
  bool ignores_merges_ = false;
};

}  // namespace pregate::model
