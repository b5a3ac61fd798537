#include "model/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "model/tokenizer/regex.h"
#include "model/tokenizer/unicode.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

bool is_word_character(char32_t code_point) {
  static const Regex word = [] {
    Result<Regex> regex = Regex::compile(fmt::format("[{}]", kRustWordClass));
    PREGATE_CHECK(regex.has_value());
    return std::move(*regex);
  }();
  return word.matches_code_point(code_point);
}

bool touches_word(std::string_view text, ByteRange range) {
  if (range.begin > 0 && is_word_character(code_point_before(text, range.begin).value)) return true;
  return range.end < text.size() && is_word_character(code_point_at(text, range.end).value);
}

size_t white_space_begin(std::string_view text, size_t end) {
  while (end > 0) {
    const CodePoint c = code_point_before(text, end);
    if (!is_white_space(c.value)) break;
    end -= c.length_bytes;
  }
  return end;
}

size_t white_space_end(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const CodePoint c = code_point_at(text, begin);
    if (!is_white_space(c.value)) break;
    begin += c.length_bytes;
  }
  return begin;
}

}  // namespace

Result<AddedToken> read_added_token(const JsonField& field) {
  AddedToken token;
  PREGATE_ASSIGN(token.content, field.string_at("content"));
  PREGATE_ASSIGN(token.is_special, field.bool_or("special", false));
  PREGATE_ASSIGN(token.single_word, field.bool_or("single_word", false));
  PREGATE_ASSIGN(token.lstrip, field.bool_or("lstrip", false));
  PREGATE_ASSIGN(token.rstrip, field.bool_or("rstrip", false));
  PREGATE_ASSIGN(token.normalized, field.bool_or("normalized", !token.is_special));
  return token;
}

Status AddedTokens::add(AddedToken token) {
  if (token.content.empty()) return {};
  if (next_id_ == kNoToken) next_id_ = static_cast<TokenId>(bpe_.num_tokens());
  std::optional<TokenId> id = find(token.content);
  if (!id) id = bpe_.token_to_id(token.content);
  if (!id) id = next_id_++;
  if (static_cast<uint32_t>(*id) >= kTokenIdLimit) {
    return fail(ErrorCode::kInvalidArgument, "too many tokens: '{}' would get id {}", token.content,
                *id);
  }
  NormalizedText form{token.content, false};
  if (token.normalized && normalizer_ != nullptr) normalizer_->apply(form);
  ids_[token.content] = *id;
  if (token.is_special) special_.insert(token.content);
  by_id_[*id] = Entry{std::move(token), std::move(form.text)};
  return {};
}

void AddedTokens::build_tries() {
  for (const auto& [id, entry] : by_id_) {
    (entry.token.normalized ? normalized_trie_ : plain_trie_).insert(entry.form, id);
  }
}

Pieces AddedTokens::extract_and_normalize(std::string_view text) const {
  Pieces plain;
  split({std::string(text), true}, plain_trie_, plain);
  Pieces out;
  for (const Piece& piece : plain.pieces) {
    if (piece.is_token()) {
      out.append(plain.text_of(piece), piece.at_start, piece.token);
      continue;
    }
    NormalizedText normalized{std::string(plain.text_of(piece)), piece.at_start};
    if (normalizer_ != nullptr) normalizer_->apply(normalized);
    split(normalized, normalized_trie_, out);
  }
  return out;
}

void AddedTokens::split(const NormalizedText& input, const TokenTrie& trie, Pieces& out) const {
  const std::string_view text = input.text;
  const auto append = [&](size_t begin, size_t end, TokenId token) {
    out.append(text.substr(begin, end - begin), input.at_start && begin == 0, token);
  };
  size_t done_end = 0;
  for (std::optional<TokenTrie::Match> match = trie.find(text, 0); match;
       match = trie.find(text, match->range.end)) {
    const AddedToken& token = by_id_.at(match->token).token;
    if (token.single_word && touches_word(text, match->range)) continue;
    auto [begin, end] = match->range;
    if (token.lstrip) begin = std::max(white_space_begin(text, begin), done_end);
    if (token.rstrip) end = white_space_end(text, end);
    if (begin > done_end) append(done_end, begin, kNoToken);
    append(begin, end, match->token);
    done_end = end;
  }
  if (done_end < text.size()) append(done_end, text.size(), kNoToken);
}

std::optional<TokenId> AddedTokens::find(std::string_view content) const {
  const auto entry = ids_.find(std::string(content));
  if (entry == ids_.end()) return std::nullopt;
  return entry->second;
}

const AddedToken* AddedTokens::token(TokenId id) const {
  const auto entry = by_id_.find(id);
  return entry == by_id_.end() ? nullptr : &entry->second.token;
}

const std::string* AddedTokens::decoded_form(TokenId id) const {
  const auto entry = by_id_.find(id);
  return entry == by_id_.end() ? nullptr : &entry->second.form;
}

}  // namespace pregate::model
