// Log-probabilities in the shapes of the two OpenAI APIs and of vLLM.
#pragma once

#include <span>
#include <string>

#include <boost/json.hpp>

#include "coordinator/scheduling/generation.h"
#include "model/tokenizer/tokenizer.h"

namespace pregate::coordinator {

/// How single tokens are shown. Refers to the tokenizer.
class TokenNames {
 public:
  TokenNames(const model::Tokenizer& tokenizer, bool as_ids)
      : tokenizer_(tokenizer), as_ids_(as_ids) {}

  /// The token's text in the middle of a sequence (" the", with its space), or "token_id:7".
  std::string name(TokenId id) const;

 private:
  const model::Tokenizer& tokenizer_;
  const bool as_ids_;
};

/// Unicode code points, which is what Python's clients count.
size_t count_characters(std::string_view utf8);

/// A number that JSON can hold: -9999 stands for minus infinity, as in vLLM.
double finite_logprob(float logprob);

/// Appends to completions' {"text_offset", "token_logprobs", "tokens", "top_logprobs"}.
class CompletionLogprobs {
 public:
  /// `text_offset`: characters of the answer before its first token here.
  CompletionLogprobs(const TokenNames& names, size_t text_offset)
      : names_(names), text_offset_(text_offset) {}

  /// `unknown_first`: nothing comes before the first token, so that it has no probability.
  void append(std::span<const GeneratedToken> tokens, bool unknown_first);
  boost::json::object take();

 private:
  const TokenNames& names_;
  size_t text_offset_;
  boost::json::array offsets_, logprobs_, tokens_, top_;
};

/// Chat's {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}.
boost::json::object chat_logprobs(std::span<const GeneratedToken> tokens, const TokenNames& names);

/// vLLM's "prompt_logprobs": null, then per token {"id": {"logprob", "rank", "decoded_token"}}.
boost::json::array prompt_logprobs(std::span<const GeneratedToken> tokens, const TokenNames& names);

}  // namespace pregate::coordinator
