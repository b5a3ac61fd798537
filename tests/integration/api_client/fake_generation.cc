#include "tests/integration/api_client/fake_generation.h"

#include <algorithm>

namespace pregate::coordinator::testing {
namespace {

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz     .\n";
/// Answers end by themselves here, unless they may not.
constexpr uint32_t kTokensUntilEos = 400;

uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 31)) * 0x9E3779B97F4A7C15ull;
  return value ^ (value >> 29);
}

std::vector<engine::TokenLogprob> alternatives(TokenId best, size_t count) {
  std::vector<engine::TokenLogprob> top;
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<TokenId>((static_cast<size_t>(best) + i) % 256);
    top.push_back({id, -0.5f - static_cast<float>(i)});
  }
  return top;
}

}  // namespace

FakeGeneration::FakeGeneration(Options options)
    : options_(options), thread_([this](const std::stop_token& stop) { serve(stop); }) {}

FakeGeneration::~FakeGeneration() {
  thread_.request_stop();
  changed_.notify_all();
}

Result<RequestId> FakeGeneration::submit(GenerationRequest request, GenerationListener listener) {
  const std::lock_guard lock(mutex_);
  if (running_.size() >= options_.max_requests) {
    return fail(ErrorCode::kResourceExhausted, "{} requests are waiting already", running_.size());
  }
  Running running{.request = std::move(request), .listener = std::move(listener), .choices = {}};
  running.choices.resize(running.request.num_choices);
  for (const TokenId id : running.request.prompt) {
    running.hash = mix(running.hash ^ static_cast<uint64_t>(id) ^ 0x51ED);
  }
  running_.emplace(++last_id_, std::move(running));
  changed_.notify_all();
  return RequestId(last_id_);
}

void FakeGeneration::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  running_.erase(id.value);
}

void FakeGeneration::serve(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    changed_.wait(lock, stop, [this] { return !running_.empty(); });
    for (auto& [id, running] : running_) step(running);
    std::erase_if(running_, [](const auto& entry) {
      return std::ranges::all_of(entry.second.choices, &Choice::finished);
    });
    lock.unlock();
    std::this_thread::sleep_for(options_.step_time);
    lock.lock();
  }
}

void FakeGeneration::step(Running& running) {
  for (uint32_t i = 0; i < running.choices.size(); ++i) {
    Choice& choice = running.choices[i];
    if (choice.finished) continue;
    GenerationChunk chunk = next_chunk(running, i);
    if (choice.num_tokens == 0) add_prompt(running, chunk);
    for (const GeneratedToken& token : chunk.tokens) choice.text += token.text;
    choice.num_tokens += static_cast<uint32_t>(chunk.tokens.size());
    if (!chunk.finish) end_by_text(running.request, choice, chunk);
    if (!chunk.finish && choice.num_tokens >= running.request.max_tokens) {
      chunk.finish = FinishReason::kLength;
    }
    // Until the end, whatever could be the beginning of a stop string stays here.
    size_t held_back = 0;
    for (const auto& stop : running.request.stop) held_back = std::max(held_back, stop.size() - 1);
    const size_t certain = chunk.finish
                               ? choice.text.size()
                               : choice.text.size() - std::min(held_back, choice.text.size());
    if (certain > choice.shown) {
      chunk.text = choice.text.substr(choice.shown, certain - choice.shown);
      choice.shown = certain;
    }
    choice.finished = chunk.finish.has_value();
    running.listener.on_chunk(std::move(chunk));
  }
}

GenerationChunk FakeGeneration::next_chunk(const Running& running, uint32_t choice_idx) {
  const GenerationRequest& request = running.request;
  GenerationChunk chunk;
  chunk.choice = choice_idx;
  const uint32_t num_tokens = running.choices[choice_idx].num_tokens;
  if (request.max_tokens == 0) return chunk;
  GeneratedToken token;
  token.token = next_token(running, choice_idx);
  token.logprob = -0.5f;
  const auto& stops = request.stop_token_ids;
  const bool may_stop = num_tokens >= request.min_tokens;
  if (may_stop && std::ranges::find(stops, token.token) != stops.end()) {
    chunk.finish = FinishReason::kStop;
    chunk.stop_reason = token.token;
  } else if (num_tokens + 1 >= kTokensUntilEos && may_stop && !request.ignore_eos) {
    chunk.finish = FinishReason::kStop;
    token.token = FakeTokenizer::kEos;
    if (!request.skip_special_tokens) token.text = "</s>";
  } else {
    token.text = std::string(1, static_cast<char>(token.token));
  }
  if (request.sampling.logprobs) token.top = alternatives(token.token, *request.sampling.logprobs);
  chunk.tokens.push_back(std::move(token));
  return chunk;
}

TokenId FakeGeneration::next_token(const Running& running, uint32_t choice_idx) {
  const engine::SamplingParams& sampling = running.request.sampling;
  for (const auto& [id, bias] : sampling.logit_bias) {
    if (bias >= 100.0f) return id;
  }
  uint64_t state = running.hash + running.choices[choice_idx].num_tokens;
  if (sampling.temperature > 0 && sampling.top_k != 1) {
    state ^= mix(sampling.seed.value_or(running.hash * 31) + choice_idx + 1);
  }
  return kLetters[mix(state) % kLetters.size()];
}

void FakeGeneration::add_prompt(const Running& running, GenerationChunk& chunk) {
  const GenerationRequest& request = running.request;
  chunk.num_cached_tokens = static_cast<uint32_t>(request.prompt.size() / 16 * 16);
  if (!request.prompt_logprobs) return;
  for (const TokenId id : request.prompt) {
    chunk.prompt_tokens.push_back({id, -0.5f, alternatives(id, *request.prompt_logprobs), ""});
  }
}

void FakeGeneration::end_by_text(const GenerationRequest& request, Choice& choice,
                                 GenerationChunk& chunk) {
  if (choice.num_tokens < request.min_tokens) return;
  for (const std::string& stop : request.stop) {
    const size_t at = choice.text.find(stop, choice.shown);
    if (at == std::string::npos) continue;
    choice.text.resize(request.include_stop_in_text ? at + stop.size() : at);
    chunk.finish = FinishReason::kStop;
    chunk.stop_reason = stop;
    return;
  }
}

}  // namespace pregate::coordinator::testing
