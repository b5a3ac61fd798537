#include "model/tokenizer/tokenizer.h"

namespace pregate::model {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::span<const TokenId> context,
                             bool skip_special_tokens)
    : session_(tokenizer.start_decoding(skip_special_tokens)) {
  std::string given_out_before;
  for (const TokenId id : context) session_->push(id, given_out_before);
}

std::string StreamDecoder::push(TokenId id) {
  std::string text;
  session_->push(id, text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  session_->finish(text);
  return text;
}

}  // namespace pregate::model
