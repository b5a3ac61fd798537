// A tokenizer for requests that nobody reads: every token is the empty text.
#pragma once

#include "model/tokenizer/tokenizer.h"

namespace pregate::cli {

class NoText final : public model::Tokenizer {
 public:
  explicit NoText(size_t vocab_size) : vocab_size_(vocab_size) {}

  std::vector<TokenId> encode(std::string_view, bool) const override { return {}; }
  std::string decode(std::span<const TokenId>, bool) const override { return {}; }
  std::unique_ptr<model::DecodeSession> start_decoding(bool) const override {
    return std::make_unique<Decoding>();
  }
  size_t vocab_size() const override { return vocab_size_; }
  std::optional<TokenId> token_to_id(std::string_view) const override { return std::nullopt; }
  std::string_view id_to_token(TokenId) const override { return {}; }
  bool is_special(TokenId) const override { return false; }

 private:
  class Decoding final : public model::DecodeSession {
   public:
    void push(TokenId, std::string&) override {}
    void finish(std::string&) override {}
  };

  const size_t vocab_size_;
};

}  // namespace pregate::cli
