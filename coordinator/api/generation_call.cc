#include "coordinator/api/generation_call.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace pregate::coordinator {

namespace json = boost::json;

std::string sse_event(std::string_view data) { return fmt::format("data: {}\n\n", data); }

void GenerationCall::start(CallContext context, PreparedCall call,
                           std::unique_ptr<AnswerFormat> format) {
  const std::shared_ptr<GenerationCall> self(
      new GenerationCall(std::move(context), std::move(call), std::move(format)));
  self->context_.exchange->on_abandoned([weak = self->weak_from_this()] {
    if (const auto living = weak.lock()) living->cancel();
  });
  self->submit();
}

GenerationCall::GenerationCall(CallContext context, PreparedCall call,
                               std::unique_ptr<AnswerFormat> format)
    : context_(std::move(context)), call_(std::move(call)), format_(std::move(format)) {
  num_unfinished_ = call_.prompts.size() * call_.fields.generation.num_choices;
  choices_.resize(num_unfinished_);
  cached_tokens_.resize(call_.prompts.size());
  for (const CallPrompt& prompt : call_.prompts) usage_.prompt_tokens += prompt.ids.size();
}

void GenerationCall::submit() {
  for (size_t i = 0; i < call_.prompts.size(); ++i) {
    GenerationRequest request = call_.fields.generation;
    request.prompt = call_.prompts[i].ids;
    const auto id = context_.service.submit(std::move(request), listener(i));
    if (!id) return fail(to_api_error(id.error()));
    requests_.push_back(*id);
  }
}

GenerationListener GenerationCall::listener(size_t prompt_idx) {
  const auto self = shared_from_this();
  return {.on_chunk =
              [self, prompt_idx](GenerationChunk chunk) {
                self->context_.io_post([self, prompt_idx, chunk = std::move(chunk)]() mutable {
                  self->on_chunk(prompt_idx, std::move(chunk));
                });
              },
          .on_error =
              [self](const Error& error) {
                self->context_.io_post([self, error] { self->fail(to_api_error(error)); });
              }};
}

uint32_t GenerationCall::choice_index(size_t prompt_idx, uint32_t choice) const {
  return static_cast<uint32_t>(prompt_idx) * call_.fields.generation.num_choices + choice;
}

void GenerationCall::on_chunk(size_t prompt_idx, GenerationChunk chunk) {
  if (over_) return;
  const bool last = chunk.finish.has_value();
  count(prompt_idx, chunk);
  if (!chunk.prompt_tokens.empty()) {
    call_.prompts[prompt_idx].logprobs = std::move(chunk.prompt_tokens);
  }
  if (call_.fields.stream) {
    stream(prompt_idx, chunk);
  } else {
    merge(choices_[choice_index(prompt_idx, chunk.choice)], std::move(chunk));
  }
  if (last && --num_unfinished_ == 0) finish();
}

void GenerationCall::count(size_t prompt_idx, const GenerationChunk& chunk) {
  usage_.completion_tokens += chunk.tokens.size();
  uint32_t& cached = cached_tokens_[prompt_idx];
  if (chunk.num_cached_tokens > cached) {
    usage_.cached_tokens += chunk.num_cached_tokens - cached;
    cached = chunk.num_cached_tokens;
  }
}

void GenerationCall::merge(Choice& choice, GenerationChunk chunk) {
  GenerationChunk& all = choice.all;
  all.text += chunk.text;
  std::move(chunk.tokens.begin(), chunk.tokens.end(), std::back_inserter(all.tokens));
  all.finish = chunk.finish;
  all.stop_reason = std::move(chunk.stop_reason);
}

/// Held-back text makes chunks that have nothing to show yet.
bool GenerationCall::worth_an_event(const Choice& choice, const GenerationChunk& chunk) const {
  const bool shows_tokens =
      call_.fields.return_token_ids || call_.fields.generation.sampling.logprobs.has_value();
  return !choice.started || !chunk.text.empty() || chunk.finish ||
         (shows_tokens && !chunk.tokens.empty());
}

void GenerationCall::stream(size_t prompt_idx, const GenerationChunk& chunk) {
  const uint32_t index = choice_index(prompt_idx, chunk.choice);
  Choice& choice = choices_[index];
  if (!worth_an_event(choice, chunk)) return;
  const ChoicePiece piece{.choice = index,
                          .chunk = chunk,
                          .prompt = call_.prompts[prompt_idx],
                          .text_offset = choice.text_offset,
                          .first = !choice.started};
  choice.started = true;
  choice.text_offset += count_characters(shown_text(piece));
  write_event(format_->event(piece, usage_));
}

void GenerationCall::write_event(const json::object& event) {
  if (!streaming_) {
    streaming_ = true;
    context_.exchange->begin_stream({.content_type = "text/event-stream; charset=utf-8",
                                     .headers = {{"Cache-Control", "no-cache"}},
                                     .body = {}});
  }
  context_.exchange->write(sse_event(json::serialize(event)));
}

void GenerationCall::finish() {
  over_ = true;
  if (!call_.fields.stream) {
    const json::object answer = format_->whole(whole_choices(), call_.prompts.front(), usage_);
    return context_.exchange->respond({.headers = {}, .body = json::serialize(answer)});
  }
  if (call_.fields.include_usage) write_event(format_->usage_event(usage_));
  context_.exchange->write(sse_event("[DONE]"));
  context_.exchange->end_stream(true);
}

json::array GenerationCall::whole_choices() const {
  const uint32_t num_choices = call_.fields.generation.num_choices;
  json::array out;
  for (uint32_t i = 0; i < choices_.size(); ++i) {
    out.push_back(format_->whole_choice(
        {.choice = i, .chunk = choices_[i].all, .prompt = call_.prompts[i / num_choices]}));
  }
  return out;
}

void GenerationCall::fail(const ApiError& error) {
  if (over_) return;
  cancel();
  if (!streaming_) return context_.exchange->respond(error_response(error));
  context_.exchange->write(sse_event(error_body(error)));
  context_.exchange->end_stream(false);
}

void GenerationCall::cancel() {
  if (over_) return;
  over_ = true;
  for (const RequestId id : requests_) context_.service.cancel(id);
}

}  // namespace pregate::coordinator
