// A tokenizer whose token t is the letter 'a' + t.
#pragma once

#include "model/tokenizer/tokenizer.h"

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
  std::unique_ptr<model::DecodeSession> start_decoding(bool) const override {
    return std::make_unique<Session>();
  }
  size_t vocab_size() const override { return 26; }
  std::optional<TokenId> token_to_id(std::string_view) const override { return std::nullopt; }
  std::string_view id_to_token(TokenId) const override { return {}; }
  bool is_special(TokenId) const override { return false; }

 private:
  class Session final : public model::DecodeSession {
   public:
    void push(TokenId id, std::string& out) override { out += static_cast<char>('a' + id); }
    void finish(std::string&) override {}
  };
};

}  // namespace pregate::coordinator
