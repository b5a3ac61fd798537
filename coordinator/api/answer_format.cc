#include "coordinator/api/answer_format.h"

#include <utility>

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

json::value finish_json(const std::optional<FinishReason>& finish) {
  if (!finish) return nullptr;
  switch (*finish) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      return "abort";
  }
  return nullptr;
}

json::value stop_reason_json(const std::variant<std::monostate, TokenId, std::string>& reason) {
  if (const auto* id = std::get_if<TokenId>(&reason)) return *id;
  if (const auto* text = std::get_if<std::string>(&reason)) return json::value(*text);
  return nullptr;
}

json::array ids_of(const std::vector<GeneratedToken>& tokens) {
  json::array ids;
  for (const GeneratedToken& token : tokens) ids.push_back(token.token);
  return ids;
}

json::array array_of(const std::vector<TokenId>& ids) {
  return json::array(ids.begin(), ids.end());
}

json::object usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

class CompletionFormat final : public AnswerFormat {
 public:
  using AnswerFormat::AnswerFormat;

  json::object whole_choice(const ChoicePiece& piece) const override {
    json::object choice = text_choice(piece, false);
    choice["prompt_logprobs"] = prompt_logprobs_json(piece.prompt);
    choice["prompt_token_ids"] =
        fields_.return_token_ids ? json::value(array_of(piece.prompt.ids)) : json::value(nullptr);
    return choice;
  }

 private:
  json::object event_choice(const ChoicePiece& piece) const override {
    json::object choice = text_choice(piece, true);
    if (fields_.return_token_ids && piece.first) {
      choice["prompt_token_ids"] = array_of(piece.prompt.ids);
    }
    return choice;
  }

  json::object text_choice(const ChoicePiece& piece, bool stream) const {
    json::object choice = {
        {"index", piece.choice}, {"text", shown_text(piece)}, {"logprobs", logprobs(piece)}};
    add_end(choice, piece, stream);
    return choice;
  }

  json::value logprobs(const ChoicePiece& piece) const {
    if (!fields_.generation.sampling.logprobs) return nullptr;
    CompletionLogprobs out(names_, piece.text_offset);
    if (fields_.echo && piece.first) out.append(piece.prompt.logprobs, true);
    out.append(piece.chunk.tokens, false);
    return out.take();
  }

  std::string_view object_name(bool) const override { return "text_completion"; }
};

class ChatFormat final : public AnswerFormat {
 public:
  using AnswerFormat::AnswerFormat;

  json::object whole_choice(const ChoicePiece& piece) const override {
    const json::value message = {
        {"role", "assistant"}, {"content", piece.chunk.text}, {"refusal", nullptr}};
    json::object choice = {
        {"index", piece.choice}, {"message", message}, {"logprobs", logprobs(piece)}};
    add_end(choice, piece, false);
    return choice;
  }

 private:
  json::object event_choice(const ChoicePiece& piece) const override {
    json::object delta;
    if (piece.first) delta["role"] = "assistant";
    if (piece.first || !piece.chunk.text.empty()) delta["content"] = piece.chunk.text;
    json::object choice = {
        {"index", piece.choice}, {"delta", std::move(delta)}, {"logprobs", logprobs(piece)}};
    add_end(choice, piece, true);
    return choice;
  }

  json::value logprobs(const ChoicePiece& piece) const {
    if (!fields_.generation.sampling.logprobs) return nullptr;
    return chat_logprobs(piece.chunk.tokens, names_);
  }

  void add_prompt(json::object& answer, const CallPrompt& prompt, bool stream) const override {
    if (!stream) answer["prompt_logprobs"] = prompt_logprobs_json(prompt);
    if (fields_.return_token_ids) {
      answer["prompt_token_ids"] = array_of(prompt.ids);
    } else if (!stream) {
      answer["prompt_token_ids"] = nullptr;
    }
  }

  std::string_view object_name(bool stream) const override {
    return stream ? "chat.completion.chunk" : "chat.completion";
  }
};

}  // namespace

std::string shown_text(const ChoicePiece& piece) {
  return piece.first ? piece.prompt.text + piece.chunk.text : piece.chunk.text;
}

AnswerFormat::AnswerFormat(AnswerHead head, const GenerationFields& fields,
                           const model::Tokenizer& tokenizer)
    : head_(std::move(head)), fields_(fields), names_(tokenizer, fields.tokens_as_ids) {}

json::object AnswerFormat::envelope(json::array choices, bool stream) const {
  return {{"id", head_.id},
          {"object", object_name(stream)},
          {"created", head_.created},
          {"model", head_.model},
          {"choices", std::move(choices)}};
}

json::object AnswerFormat::whole(json::array choices, const CallPrompt& prompt,
                                 const Usage& usage) const {
  json::object answer = envelope(std::move(choices), false);
  answer["usage"] = usage_json(usage);
  add_prompt(answer, prompt, false);
  return answer;
}

json::object AnswerFormat::event(const ChoicePiece& piece, const Usage& usage) const {
  json::object answer = envelope({event_choice(piece)}, true);
  if (piece.first) add_prompt(answer, piece.prompt, true);
  if (fields_.continuous_usage) {
    answer["usage"] = usage_json(usage);
  } else if (fields_.include_usage) {
    answer["usage"] = nullptr;
  }
  return answer;
}

json::object AnswerFormat::usage_event(const Usage& usage) const {
  json::object answer = envelope({}, true);
  answer["usage"] = usage_json(usage);
  return answer;
}

void AnswerFormat::add_prompt(json::object&, const CallPrompt&, bool) const {}

void AnswerFormat::add_end(json::object& choice, const ChoicePiece& piece, bool stream) const {
  choice["finish_reason"] = finish_json(piece.chunk.finish);
  choice["stop_reason"] = stop_reason_json(piece.chunk.stop_reason);
  if (fields_.return_token_ids) {
    choice["token_ids"] = ids_of(piece.chunk.tokens);
  } else if (!stream) {
    choice["token_ids"] = nullptr;
  }
}

json::value AnswerFormat::prompt_logprobs_json(const CallPrompt& prompt) const {
  if (!fields_.return_prompt_logprobs) return nullptr;
  return prompt_logprobs(prompt.logprobs, names_);
}

std::unique_ptr<AnswerFormat> completion_format(AnswerHead head, const GenerationFields& fields,
                                                const model::Tokenizer& tokenizer) {
  return std::make_unique<CompletionFormat>(std::move(head), fields, tokenizer);
}

std::unique_ptr<AnswerFormat> chat_format(AnswerHead head, const GenerationFields& fields,
                                          const model::Tokenizer& tokenizer) {
  return std::make_unique<ChatFormat>(std::move(head), fields, tokenizer);
}

}  // namespace pregate::coordinator
