// Byte-pair encoding: the "model" of tokenizer.json.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "model/tokenizer/json_field.h"
#include "model/tokenizer/pair_map.h"

namespace pregate::model {

/// Ids at or above this are taken for a damaged file (the largest vocabularies have 2^18).
inline constexpr uint32_t kTokenIdLimit = 1U << 22;

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
  Status add_merge(const JsonField& field, uint32_t rank, std::string_view left,
                   std::string_view right);
  void find_byte_tokens();

  void append_symbols(std::string_view word, std::vector<TokenId>& symbols) const;
  bool append_bytes(std::string_view symbol, std::vector<TokenId>& symbols) const;

  Vocab vocab_;
  std::vector<const std::string*> tokens_;  // by id, into vocab_; null where there is none
  PairMap merges_;
  std::string continuing_subword_prefix_;
  std::string end_of_word_suffix_;
  std::optional<TokenId> unknown_;
  std::array<std::optional<TokenId>, 256> byte_tokens_;  // "<0x00>" ...; all empty if not used
  bool fuses_unknown_ = false;
  bool ignores_merges_ = false;
};

}  // namespace pregate::model
