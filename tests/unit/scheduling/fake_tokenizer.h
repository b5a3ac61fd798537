// A tokenizer whose token t is the letter 'a' + t.
#pragma once

#include "tests/support/plain_decoding.h"

namespace pregate::coordinator {

class LetterTokenizer final : public model::Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text, bool) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(c - 'a');
    return ids;
  }
  std::string decode(std::span<const TokenId> ids, bool) const override {
    std::string text;
    for (const TokenId id : ids) text += static_cast<char>('a' + id);
    return text;
  }
  std::unique_ptr<model::DecodeSession> start_decoding(bool skip_special_tokens) const override {
    return std::make_unique<test_support::PlainDecoding>(*this, skip_special_tokens);
  }
  size_t vocab_size() const override { return 26; }
  std::optional<TokenId> token_to_id(std::string_view) const override { return std::nullopt; }
  std::string_view id_to_token(TokenId) const override { return {}; }
  bool is_special(TokenId) const override { return false; }
};

}  // namespace pregate::coordinator
