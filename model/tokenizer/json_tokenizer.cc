#include "model/tokenizer/json_tokenizer.h"

#include <utility>

#include "model/tokenizer/utf8.h"

namespace pregate::model {

class JsonTokenizer::Session : public DecodeSession {
 public:
  Session(const JsonTokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer),
        skip_special_tokens_(skip_special_tokens),
        chain_(tokenizer.decoder_.start()) {}

  void push(TokenId id, std::string& out) override {
    const std::string* form = tokenizer_.decoded_form(id);
    if (form == nullptr) return;
    if (skip_special_tokens_ && tokenizer_.added_tokens_.is_special(*form)) return;
    chain_.push(*form, out);
  }
  void finish(std::string& out) override { chain_.finish(out); }

 private:
  const JsonTokenizer& tokenizer_;
  const bool skip_special_tokens_;
  DecodeChain chain_;
};

std::vector<TokenId> JsonTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  Pieces pieces = is_valid_utf8(text) ? added_tokens_.extract_and_normalize(text)
                                      : added_tokens_.extract_and_normalize(repair_utf8(text));
  if (pre_tokenizer_ != nullptr) pre_tokenizer_->apply(pieces);
  std::vector<TokenId> ids;
  for (const Piece& piece : pieces.pieces) {
    if (piece.is_token()) {
      ids.push_back(piece.token);
    } else {
      bpe_.encode_word(pieces.text_of(piece), ids);
    }
  }
  return post_processor_ ? post_processor_->apply(std::move(ids), add_special_tokens) : ids;
}

std::string JsonTokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  Session session(*this, skip_special_tokens);
  std::string text;
  for (const TokenId id : ids) session.push(id, text);
  session.finish(text);
  return text;
}

std::unique_ptr<DecodeSession> JsonTokenizer::start_decoding(bool skip_special_tokens) const {
  return std::make_unique<Session>(*this, skip_special_tokens);
}

size_t JsonTokenizer::vocab_size() const { return std::max(bpe_.id_end(), added_tokens_.id_end()); }

std::optional<TokenId> JsonTokenizer::token_to_id(std::string_view token) const {
  const std::optional<TokenId> added = added_tokens_.find(token);
  return added ? added : bpe_.token_to_id(token);
}

std::string_view JsonTokenizer::id_to_token(TokenId id) const {
  if (const AddedToken* added = added_tokens_.token(id)) return added->content;
  const std::string* token = bpe_.id_to_token(id);
  return token == nullptr ? std::string_view() : *token;
}

bool JsonTokenizer::is_special(TokenId id) const {
  return added_tokens_.is_special(id_to_token(id));
}

const std::string* JsonTokenizer::decoded_form(TokenId id) const {
  const std::string* added = added_tokens_.decoded_form(id);
  return added != nullptr ? added : bpe_.id_to_token(id);
}

}  // namespace pregate::model
