// The bodies of the API's requests as typed values, and the functions that read them.
//
// Fields, defaults and ranges are OpenAI's, with vLLM's additions. Unknown fields are ignored;
// known ones that this server does not do are refused, because ignoring them would change the
// answer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <boost/json.hpp>

#include "coordinator/api/api_error.h"
#include "coordinator/scheduling/generation.h"
#include "model/chat/chat_template.h"

namespace pregate::coordinator {

/// What a request is checked against, and what it gets where it says nothing.
struct RequestRules {
  size_t vocab_size = 0;
  uint32_t max_model_len = 0;
  engine::SamplingParams default_sampling;
};

using Prompt = std::variant<std::string, std::vector<TokenId>>;

/// What completions and chat have in common.
struct GenerationFields {
  std::string model;             ///< Empty: not given.
  GenerationRequest generation;  ///< All but the prompt; max_tokens is set from the field below.
  std::optional<uint32_t> max_tokens;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool echo = false;
  bool add_special_tokens = true;
  bool return_prompt_logprobs = false;  ///< Asked for by name, not only for the echo.
  bool return_token_ids = false;
  bool tokens_as_ids = false;  ///< "return_tokens_as_token_ids": tokens appear as "token_id:7".
};

struct CompletionRequest {
  GenerationFields fields;
  std::vector<Prompt> prompts;  ///< Not empty.
};

struct ChatRequest {
  GenerationFields fields;
  boost::json::array messages;  ///< Not empty; contents are strings.
  model::ChatOptions options;
};

struct TokenizeRequest {
  std::string model;
  std::string prompt;
  std::optional<boost::json::array> messages;  ///< If set, instead of the prompt.
  model::ChatOptions options;
  bool add_special_tokens = true;
  bool return_token_strs = false;
};

struct DetokenizeRequest {
  std::string model;
  std::vector<TokenId> tokens;
};

/// An object, or what is wrong with the JSON and where.
ApiResult<boost::json::object> parse_body(std::string_view body);

ApiResult<CompletionRequest> parse_completion(const boost::json::object& body,
                                              const RequestRules& rules);
ApiResult<ChatRequest> parse_chat(const boost::json::object& body, const RequestRules& rules);
ApiResult<TokenizeRequest> parse_tokenize(const boost::json::object& body);
ApiResult<DetokenizeRequest> parse_detokenize(const boost::json::object& body,
                                              const RequestRules& rules);

}  // namespace pregate::coordinator
