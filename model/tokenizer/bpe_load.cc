#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>

#include "model/tokenizer/bpe.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {

Result<Bpe> Bpe::from_json(const JsonField& field) {
  Bpe bpe;
  PREGATE_ASSIGN(const JsonField vocab, field.at("vocab"));
  PREGATE_TRY(bpe.read_vocab(vocab));
  PREGATE_TRY(bpe.read_options(field));
  PREGATE_ASSIGN(const JsonField merges, field.at("merges"));
  PREGATE_TRY(bpe.read_merges(merges));
  return bpe;
}

Status Bpe::read_vocab(const JsonField& field) {
  const boost::json::object* entries = field.value().if_object();
  if (entries == nullptr) return field.fail_here("expected an object of tokens and their ids");
  vocab_.reserve(entries->size());
  for (const auto& entry : *entries) {
    const std::string_view token(entry.key().data(), entry.key().size());
    const JsonField id_field(entry.value(), fmt::format("{}[\"{}\"]", field.path(), token));
    PREGATE_ASSIGN(const uint32_t id, id_field.as_number_below(kTokenIdLimit));
    vocab_.emplace(token, static_cast<TokenId>(id));
    if (id >= tokens_.size()) tokens_.resize(id + 1, nullptr);
  }
  for (const auto& [token, id] : vocab_) {
    const std::string*& slot = tokens_[static_cast<size_t>(id)];
    if (slot != nullptr) has_joinable_ = false;  // a merge of one would apply to the other, too
    slot = &token;
  }
  return {};
}

Status Bpe::read_options(const JsonField& field) {
  PREGATE_ASSIGN(const std::optional<JsonField> dropout, field.find("dropout"));
  const bool has_dropout = dropout && dropout->value() != 0.0 && dropout->value() != 0;
  if (has_dropout) return dropout->fail_here("dropout makes encoding random; expected null");
  const auto read_text = [&](std::string_view key, std::string& out) -> Status {
    PREGATE_ASSIGN(const std::optional<JsonField> text_field, field.find(key));
    if (text_field) {
      PREGATE_ASSIGN(out, text_field->as_string());
    }
    return {};
  };
  PREGATE_TRY(read_text("continuing_subword_prefix", continuing_subword_prefix_));
  PREGATE_TRY(read_text("end_of_word_suffix", end_of_word_suffix_));
  std::string unknown;
  PREGATE_TRY(read_text("unk_token", unknown));
  // Not an error where the vocabulary lacks it: one that covers every byte never needs it.
  unknown_ = token_to_id(unknown);
  PREGATE_ASSIGN(fuses_unknown_, field.bool_or("fuse_unk", false));
  PREGATE_ASSIGN(ignores_merges_, field.bool_or("ignore_merges", false));
  PREGATE_ASSIGN(const bool falls_back_to_bytes, field.bool_or("byte_fallback", false));
  if (falls_back_to_bytes) find_byte_tokens();
  find_frequent_symbols();
  return {};
}

void Bpe::find_frequent_symbols() {
  constexpr char32_t kEnd = 0x800;
  if (!continuing_subword_prefix_.empty() || !end_of_word_suffix_.empty()) return;
  frequent_symbols_.resize(kEnd, kNoSymbol);
  for (char32_t c = 0; c < kEnd; ++c) {
    std::string symbol;
    append_utf8(c, symbol);
    frequent_symbols_[c] = token_to_id(symbol).value_or(kNoSymbol);
  }
}

void Bpe::find_byte_tokens() {
  for (size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
    byte_tokens_[byte] = token_to_id(fmt::format("<0x{:02X}>", byte));
  }
}

Status Bpe::read_merges(const JsonField& field) {
  const boost::json::array* merges = field.value().if_array();
  if (merges == nullptr) return field.fail_here("expected an array of pairs of tokens");
  for (size_t i = 0; i < merges->size(); ++i) {
    const boost::json::value& merge = (*merges)[i];
    const JsonField merge_field(merge, fmt::format("{}[{}]", field.path(), i));
    const auto rank = static_cast<uint32_t>(i);
    const boost::json::array* pair = merge.if_array();
    if (pair != nullptr && pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string()) {
      PREGATE_TRY(add_merge(merge_field, rank, (*pair)[0].get_string(), (*pair)[1].get_string()));
      continue;
    }
    const boost::json::string* text = merge.if_string();
    if (text == nullptr) return merge_field.fail_here("expected two tokens");
    const std::string_view line(text->data(), text->size());
    if (line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos) {
      return merge_field.fail_here("expected two tokens with one space between, found '{}'", line);
    }
    PREGATE_TRY(add_merge(merge_field, rank, line.substr(0, space), line.substr(space + 1)));
  }
  return {};
}

Status Bpe::add_merge(const JsonField& field, uint32_t rank, std::string_view left,
                      std::string_view right) {
  const std::optional<TokenId> left_id = token_to_id(left);
  const std::optional<TokenId> right_id = token_to_id(right);
  if (!left_id || !right_id) {
    return field.fail_here("token '{}' is not in the vocabulary", left_id ? right : left);
  }
  if (right.size() < continuing_subword_prefix_.size()) {
    return field.fail_here("token '{}' does not begin with the continuing_subword_prefix", right);
  }
  std::string merged(left);
  merged += right.substr(continuing_subword_prefix_.size());
  const std::optional<TokenId> merged_id = token_to_id(merged);
  if (!merged_id) return field.fail_here("token '{}' is not in the vocabulary", merged);
  merges_.insert(*left_id, *right_id, {rank, *merged_id});
  add_joinable(left, right);
  return {};
}

void Bpe::add_joinable(std::string_view left, std::string_view right) {
  if (!is_plain(left) || !is_plain(right)) {
    has_joinable_ = false;
    return;
  }
  joinable_.insert(static_cast<int32_t>(code_point_before(left, left.size()).value),
                   static_cast<int32_t>(code_point_at(right, 0).value), {});
}

/// Whether the token stands for the characters it is written with.
bool Bpe::is_plain(std::string_view token) const {
  const bool is_changed = !continuing_subword_prefix_.empty() || !end_of_word_suffix_.empty();
  const bool is_byte = token.size() == 6 && token.starts_with("<0x");
  return !is_changed && !is_byte && !token.empty() && token_to_id(token) != unknown_;
}

}  // namespace pregate::model
