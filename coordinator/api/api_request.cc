#include "coordinator/api/api_request.h"

#include <fmt/format.h>

#include "coordinator/api/chat_messages.h"
#include "coordinator/api/field_reader.h"
#include "coordinator/api/generation_fields.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

/// Deeper nesting has no use here and would be recursion at the peer's will.
constexpr size_t kMaxDepth = 64;
constexpr uint32_t kDefaultCompletionTokens = 16;
constexpr size_t kMaxPrompts = 1024;

template <typename T>
ApiResult<T> result_of(const FieldReader& in, T& value) {
  if (in.error()) return tl::unexpected(*in.error());
  return std::move(value);
}

void read_prompt_list(FieldReader& in, const json::array& list, size_t vocab_size,
                      std::vector<Prompt>& out) {
  if (list.size() > kMaxPrompts) {
    return in.fail("prompt", fmt::format("at most {} prompts", kMaxPrompts));
  }
  for (const json::value& item : list) {
    if (item.is_string()) {
      out.emplace_back(std::string(item.get_string()));
    } else if (item.is_array()) {
      out.emplace_back(read_token_ids(in, "prompt", item.get_array(), vocab_size));
    } else {
      return in.fail("prompt",
                     "expected a string, a list of strings, a list of token ids, or a "
                     "list of such lists");
    }
  }
}

void read_prompts(FieldReader& in, size_t vocab_size, std::vector<Prompt>& out) {
  const json::value* prompt = in.find("prompt");
  if (prompt == nullptr) return in.fail("prompt", "required");
  if (prompt->is_string()) {
    out.emplace_back(std::string(prompt->get_string()));
  } else if (!prompt->is_array()) {
    in.fail("prompt", "expected a string or a list");
  } else if (prompt->get_array().empty()) {
    in.fail("prompt", "must not be empty");
  } else if (prompt->get_array()[0].is_number()) {
    out.emplace_back(read_token_ids(in, "prompt", prompt->get_array(), vocab_size));
  } else {
    read_prompt_list(in, prompt->get_array(), vocab_size, out);
  }
}

void read_chat_logprobs(FieldReader& in, engine::SamplingParams& out) {
  bool logprobs = false;
  std::optional<uint32_t> top;
  in.read("logprobs", logprobs);
  in.read("top_logprobs", top, {0, kMaxLogprobs});
  if (logprobs) out.logprobs = top.value_or(0);
  if (top.value_or(0) > 0 && !logprobs) {
    in.fail("top_logprobs", "only allowed with \"logprobs\": true");
  }
}

}  // namespace

ApiResult<json::object> parse_body(std::string_view body) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::system::error_code ec;
  json::value value = json::parse(body, ec, {}, options);
  if (ec) return tl::unexpected(ApiError{400, fmt::format("not valid JSON: {}", ec.message())});
  if (!value.is_object()) return tl::unexpected(ApiError{400, "expected a JSON object"});
  return std::move(value.get_object());
}

ApiResult<CompletionRequest> parse_completion(const json::object& body, const RequestRules& rules) {
  FieldReader in(body);
  CompletionRequest out;
  read_generation_fields(in, out.fields, rules);
  read_prompts(in, rules.vocab_size, out.prompts);
  in.read("logprobs", out.fields.generation.sampling.logprobs, {0, kMaxLogprobs});
  std::string suffix;
  in.read("suffix", suffix);
  if (!suffix.empty()) in.fail("suffix", "not supported by this server");
  check_generation_fields(in, out.fields);
  out.fields.generation.max_tokens = out.fields.max_tokens.value_or(kDefaultCompletionTokens);
  // The prompt's own log-probabilities are part of the echo.
  auto& generation = out.fields.generation;
  if (out.fields.echo && !generation.prompt_logprobs) {
    generation.prompt_logprobs = generation.sampling.logprobs;
  }
  return result_of(in, out);
}

ApiResult<ChatRequest> parse_chat(const json::object& body, const RequestRules& rules) {
  FieldReader in(body);
  ChatRequest out;
  // A chat template writes the special tokens itself.
  out.fields.add_special_tokens = false;
  read_generation_fields(in, out.fields, rules);
  out.messages = read_messages(in);
  out.options = read_chat_options(in);
  read_chat_logprobs(in, out.fields.generation.sampling);
  in.read("max_completion_tokens", out.fields.max_tokens, {1, INT32_MAX});
  if (out.fields.max_tokens == 0u) in.fail("max_tokens", "expected an integer of at least 1");
  if (out.fields.echo) in.fail("echo", "only supported for completions");
  check_generation_fields(in, out.fields);
  out.fields.generation.max_tokens = out.fields.max_tokens.value_or(rules.max_model_len);
  return result_of(in, out);
}

ApiResult<TokenizeRequest> parse_tokenize(const json::object& body) {
  FieldReader in(body);
  TokenizeRequest out;
  in.read("model", out.model);
  in.read("return_token_strs", out.return_token_strs);
  if (in.find("messages") != nullptr) {
    out.add_special_tokens = false;
    out.messages = read_messages(in);
    out.options = read_chat_options(in);
  } else if (in.find("prompt") == nullptr) {
    in.fail("prompt", "required (or \"messages\")");
  }
  in.read("prompt", out.prompt);
  in.read("add_special_tokens", out.add_special_tokens);
  return result_of(in, out);
}

ApiResult<DetokenizeRequest> parse_detokenize(const json::object& body, const RequestRules& rules) {
  FieldReader in(body);
  DetokenizeRequest out;
  in.read("model", out.model);
  const json::array* tokens = in.array("tokens");
  if (tokens == nullptr) {
    in.fail("tokens", "required");
  } else {
    out.tokens = read_token_ids(in, "tokens", *tokens, rules.vocab_size);
  }
  return result_of(in, out);
}

}  // namespace pregate::coordinator
