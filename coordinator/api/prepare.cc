#include "coordinator/api/prepare.h"

#include <algorithm>

#include <fmt/format.h>

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

RequestRules rules_of(const ServingModel& model) {
  return {.vocab_size = model.vocab_size,
          .max_model_len = model.max_model_len,
          .default_sampling = model.default_sampling};
}

/// The name the answer shows, or 404.
ApiResult<std::string> resolve_model(const std::string& asked, const ServedNames& names) {
  if (asked.empty()) return names.front();
  if (std::find(names.begin(), names.end(), asked) != names.end()) return asked;
  return tl::unexpected(ApiError{404, fmt::format("The model `{}` does not exist.", asked), "model",
                                 "model_not_found"});
}

ApiResult<std::string> render_chat(const json::array& messages, const model::ChatOptions& options,
                                   const ServingModel& model) {
  if (model.chat_template == nullptr) {
    return tl::unexpected(ApiError{400, "this model has no chat template; use /v1/completions",
                                   "messages", "no_chat_template"});
  }
  auto text = model.chat_template->render(messages, options);
  if (text) return std::move(*text);
  // Whatever stops a template, its messages are the cause: not our fault, and no use to retry.
  return invalid_field("messages", text.error().message);
}

tl::unexpected<ApiError> too_long(std::string_view param, std::string message) {
  return tl::unexpected(
      ApiError{400, std::move(message), std::string(param), "context_length_exceeded"});
}

/// Checks lengths and settles max_tokens, which is one number for all prompts of a request.
ApiResult<PreparedCall> finish(PreparedCall call, const ServingModel& model,
                               std::string_view prompt_field) {
  size_t longest = 0;
  for (const CallPrompt& prompt : call.prompts) {
    if (prompt.ids.empty()) return invalid_field(prompt_field, "the prompt has no tokens");
    longest = std::max(longest, prompt.ids.size());
  }
  if (longest >= model.max_model_len) {
    return too_long(prompt_field,
                    fmt::format("the prompt has {} tokens; with one to answer it must fit into "
                                "the context of {} tokens",
                                longest, model.max_model_len));
  }
  const auto rest = static_cast<uint32_t>(model.max_model_len - longest);
  uint32_t& max_tokens = call.fields.generation.max_tokens;
  if (call.fields.max_tokens && max_tokens > rest) {
    return too_long("max_tokens",
                    fmt::format("max_tokens is {}, but of the context of {} tokens the prompt's {} "
                                "leave only {}",
                                max_tokens, model.max_model_len, longest, rest));
  }
  max_tokens = std::min(max_tokens, rest);
  if (call.fields.generation.min_tokens > max_tokens) {
    return invalid_field("min_tokens", fmt::format("must not be above the {} tokens that can be "
                                                   "generated",
                                                   max_tokens));
  }
  return call;
}

CallPrompt tokenize(Prompt prompt, const GenerationFields& fields,
                    const model::Tokenizer& tokenizer) {
  CallPrompt out;
  if (auto* text = std::get_if<std::string>(&prompt)) {
    out.ids = tokenizer.encode(*text, fields.add_special_tokens);
    if (fields.echo) out.text = std::move(*text);
  } else {
    out.ids = std::get<std::vector<TokenId>>(std::move(prompt));
    if (fields.echo) {
      out.text = tokenizer.decode(out.ids, fields.generation.skip_special_tokens);
    }
  }
  return out;
}

}  // namespace

ApiResult<PreparedCall> prepare_completion(std::string_view body, const ServingModel& model,
                                           const ServedNames& names) {
  auto object = parse_body(body);
  if (!object) return tl::unexpected(object.error());
  auto request = parse_completion(*object, rules_of(model));
  if (!request) return tl::unexpected(request.error());
  auto name = resolve_model(request->fields.model, names);
  if (!name) return tl::unexpected(name.error());

  PreparedCall call{.fields = std::move(request->fields), .prompts = {}, .model = *name};
  for (Prompt& prompt : request->prompts) {
    call.prompts.push_back(tokenize(std::move(prompt), call.fields, model.tokenizer));
  }
  return finish(std::move(call), model, "prompt");
}

ApiResult<PreparedCall> prepare_chat(std::string_view body, const ServingModel& model,
                                     const ServedNames& names) {
  auto object = parse_body(body);
  if (!object) return tl::unexpected(object.error());
  auto request = parse_chat(*object, rules_of(model));
  if (!request) return tl::unexpected(request.error());
  auto name = resolve_model(request->fields.model, names);
  if (!name) return tl::unexpected(name.error());
  auto text = render_chat(request->messages, request->options, model);
  if (!text) return tl::unexpected(text.error());

  PreparedCall call{.fields = std::move(request->fields), .prompts = {}, .model = *name};
  call.prompts.push_back(tokenize(std::move(*text), call.fields, model.tokenizer));
  return finish(std::move(call), model, "messages");
}

ApiResult<std::string> answer_tokenize(std::string_view body, const ServingModel& model,
                                       const ServedNames& names) {
  auto object = parse_body(body);
  if (!object) return tl::unexpected(object.error());
  auto request = parse_tokenize(*object);
  if (!request) return tl::unexpected(request.error());
  auto name = resolve_model(request->model, names);
  if (!name) return tl::unexpected(name.error());
  ApiResult<std::string> text = std::move(request->prompt);
  if (request->messages) text = render_chat(*request->messages, request->options, model);
  if (!text) return tl::unexpected(text.error());

  const auto ids = model.tokenizer.encode(*text, request->add_special_tokens);
  json::value strings = nullptr;
  if (request->return_token_strs) {
    json::array& list = strings.emplace_array();
    for (const TokenId id : ids) list.emplace_back(model.tokenizer.id_to_token(id));
  }
  const json::object answer = {{"count", ids.size()},
                               {"max_model_len", model.max_model_len},
                               {"tokens", json::array(ids.begin(), ids.end())},
                               {"token_strs", std::move(strings)}};
  return json::serialize(answer);
}

ApiResult<std::string> answer_detokenize(std::string_view body, const ServingModel& model,
                                         const ServedNames& names) {
  auto object = parse_body(body);
  if (!object) return tl::unexpected(object.error());
  auto request = parse_detokenize(*object, rules_of(model));
  if (!request) return tl::unexpected(request.error());
  auto name = resolve_model(request->model, names);
  if (!name) return tl::unexpected(name.error());
  const json::object answer = {{"prompt", model.tokenizer.decode(request->tokens, false)}};
  return json::serialize(answer);
}

}  // namespace pregate::coordinator
