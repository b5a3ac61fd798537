// Tokens found in the text as they are, before anything else: "added_tokens" of tokenizer.json.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "model/tokenizer/bpe.h"
#include "model/tokenizer/json_field.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/pieces.h"
#include "model/tokenizer/token_trie.h"

namespace pregate::model {

struct AddedToken {
  std::string content;
  bool is_special = false;   ///< Left out of decoded text on request.
  bool single_word = false;  ///< Not next to a word character.
  bool lstrip = false;       ///< Takes the white space before it.
  bool rstrip = false;       ///< Takes the white space after it.
  bool normalized = true;    ///< Its normalised form is looked for in the normalised text.
};

Result<AddedToken> read_added_token(const JsonField& field);

/// Immutable once the tokens are added; thread-safe then.
class AddedTokens {
 public:
  /// `normalizer` may be null; both must outlive this.
  AddedTokens(const Bpe& bpe, const Normalizer* normalizer) : bpe_(bpe), normalizer_(normalizer) {}

  /// A token of the vocabulary keeps its id, another gets the next free one (the file's own "id" is
  /// not used, as in the reference). A token added before is replaced.
  Status add(AddedToken token);
  /// Call once, after the last add().
  void build_tries();

  /// Cuts `text` at the tokens and normalises what lies between.
  Pieces extract_and_normalize(std::string_view text) const;

  std::optional<TokenId> find(std::string_view content) const;
  /// Null for an id that is not an added token.
  const AddedToken* token(TokenId id) const;
  /// What stands for the token when its id is decoded: its normalised form where it has one.
  const std::string* decoded_form(TokenId id) const;
  bool is_special(std::string_view content) const {
    return special_.contains(std::string(content));
  }
  /// One more than the largest id; 0 without tokens.
  size_t id_end() const { return by_id_.empty() ? 0 : by_id_.rbegin()->first + 1U; }

 private:
  struct Entry {
    AddedToken token;
    std::string form;  // normalised where that is asked for
  };

  void split(const NormalizedText& input, const TokenTrie& trie, Pieces& out) const;

  const Bpe& bpe_;
  const Normalizer* normalizer_;
  std::map<TokenId, Entry> by_id_;
  std::unordered_map<std::string, TokenId> ids_;
  std::unordered_set<std::string> special_;
  TokenId next_id_ = kNoToken;
  TokenTrie plain_trie_;
  TokenTrie normalized_trie_;
};

}  // namespace pregate::model
