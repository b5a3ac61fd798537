#include "coordinator/api/logprobs_json.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

json::array bytes_of(std::string_view text) {
  json::array bytes;
  bytes.reserve(text.size());
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

json::object chat_entry(TokenId id, float logprob, const TokenNames& names) {
  const std::string text = names.name(id);
  return {{"token", text}, {"logprob", finite_logprob(logprob)}, {"bytes", bytes_of(text)}};
}

json::object prompt_entry(float logprob, json::value rank, std::string text) {
  return {{"logprob", finite_logprob(logprob)}, {"rank", std::move(rank)}, {"decoded_token", text}};
}

}  // namespace

size_t count_characters(std::string_view utf8) {
  return static_cast<size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string TokenNames::name(TokenId id) const {
  if (as_ids_) return fmt::format("token_id:{}", id);
  // Some tokenizers drop a leading space at the start of a text. The second of two equal tokens
  // shows the token as it reads elsewhere.
  const std::string once = tokenizer_.decode(std::array{id}, false);
  const std::string twice = tokenizer_.decode(std::array{id, id}, false);
  return twice.starts_with(once) ? twice.substr(once.size()) : once;
}

double finite_logprob(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

void CompletionLogprobs::append(std::span<const GeneratedToken> tokens, bool unknown_first) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const GeneratedToken& token = tokens[i];
    const std::string text = names_.name(token.token);
    offsets_.push_back(text_offset_);
    tokens_.emplace_back(text);
    text_offset_ += count_characters(text);
    if (unknown_first && i == 0) {
      logprobs_.push_back(nullptr);
      top_.push_back(nullptr);
      continue;
    }
    json::object alternatives;
    for (const engine::TokenLogprob& other : token.top) {
      alternatives.emplace(names_.name(other.token), finite_logprob(other.logprob));
    }
    alternatives.emplace(text, finite_logprob(token.logprob));
    logprobs_.push_back(finite_logprob(token.logprob));
    top_.push_back(std::move(alternatives));
  }
}

json::object CompletionLogprobs::take() {
  return {{"text_offset", std::move(offsets_)},
          {"token_logprobs", std::move(logprobs_)},
          {"tokens", std::move(tokens_)},
          {"top_logprobs", std::move(top_)}};
}

json::object chat_logprobs(std::span<const GeneratedToken> tokens, const TokenNames& names) {
  json::array content;
  for (const GeneratedToken& token : tokens) {
    json::object entry = chat_entry(token.token, token.logprob, names);
    json::array top;
    for (const auto& [id, logprob] : token.top) top.push_back(chat_entry(id, logprob, names));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

json::array prompt_logprobs(std::span<const GeneratedToken> tokens, const TokenNames& names) {
  json::array out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i == 0) {
      out.push_back(nullptr);
      continue;
    }
    json::object entry;
    for (size_t rank = 0; rank < tokens[i].top.size(); ++rank) {
      const auto& [id, logprob] = tokens[i].top[rank];
      entry.emplace(std::to_string(id), prompt_entry(logprob, rank + 1, names.name(id)));
    }
    // Its rank is known only if it is among the best.
    const TokenId id = tokens[i].token;
    entry.emplace(std::to_string(id), prompt_entry(tokens[i].logprob, nullptr, names.name(id)));
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace pregate::coordinator
