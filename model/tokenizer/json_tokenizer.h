// The tokenizer that a tokenizer.json describes.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/bpe.h"
#include "model/tokenizer/decoder.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/post_processor.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/tokenizer.h"

namespace pregate::model {

/// Its "truncation" and "padding" are not applied: they concern batches in training.
class JsonTokenizer : public Tokenizer {
 public:
  /// `config_json` is the text of tokenizer_config.json, empty where there is none. Its
  /// "added_tokens_decoder" adds tokens, or changes how one is matched.
  static Result<std::unique_ptr<Tokenizer>> from_text(std::string_view tokenizer_json,
                                                      std::string_view config_json);

  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const override;
  std::unique_ptr<DecodeSession> start_decoding(bool skip_special_tokens) const override;
  size_t vocab_size() const override;
  std::optional<TokenId> token_to_id(std::string_view token) const override;
  std::string_view id_to_token(TokenId id) const override;
  bool is_special(TokenId id) const override;

 private:
  class Session;

  JsonTokenizer(Bpe bpe, std::unique_ptr<Normalizer> normalizer)
      : normalizer_(std::move(normalizer)),
        bpe_(std::move(bpe)),
        added_tokens_(bpe_, normalizer_.get()) {}

  static Result<std::unique_ptr<JsonTokenizer>> read_tokenizer(std::string_view text);
  Status read_added_tokens(const JsonField& root);
  Status read_config(std::string_view config_json);
  /// What an id contributes to decoded text; null for an unknown id.
  const std::string* decoded_form(TokenId id) const;

  std::unique_ptr<Normalizer> normalizer_;  // null: none
  Bpe bpe_;
  AddedTokens added_tokens_;                     // refers to the two above
  std::unique_ptr<PreTokenizer> pre_tokenizer_;  // null: none
  std::optional<PostProcessor> post_processor_;
  Decoder decoder_;
};

}  // namespace pregate::model
