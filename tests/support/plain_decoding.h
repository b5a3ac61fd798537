// A decoding in progress for fake tokenizers whose tokens are whole pieces of text.
#pragma once

#include "model/tokenizer/tokenizer.h"

namespace pregate::test_support {

class PlainDecoding final : public model::DecodeSession {
 public:
  PlainDecoding(const model::Tokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}
  void push(TokenId id, std::string& out) override {
    out += tokenizer_.decode({&id, 1}, skip_special_tokens_);
  }
  void finish(std::string&) override {}

 private:
  const model::Tokenizer& tokenizer_;
  const bool skip_special_tokens_;
};

}  // namespace pregate::test_support
