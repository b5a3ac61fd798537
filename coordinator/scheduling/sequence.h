// One choice of one request on its way through the scheduler.
#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "coordinator/scheduling/generation.h"
#include "coordinator/scheduling/stop_scanner.h"
#include "engine/expert_client.h"
#include "engine/kv/block_pool.h"
#include "engine/sampling/sampler.h"
#include "model/tokenizer/tokenizer.h"

namespace pregate::coordinator {

/// What the choices of a request share.
struct ActiveRequest {
  RequestId id;
  GenerationRequest request;
  GenerationListener listener;
  TimePoint arrival;
  bool prompt_computed = false;  ///< By the first choice; the others then find it in the cache.
  std::vector<ExpertId> prompt_experts;  ///< Of its first tokens, as far as the router was asked.
  bool failed = false;  ///< The listener was told an error; nothing more goes to it.
  uint32_t num_open_choices = 0;

  // For the metrics.
  uint32_t num_generated_tokens = 0;  // of finished choices
  TimePoint first_scheduled{}, first_token{}, last_token{};
};

/// What a model says about ends, and how its tokens become text.
struct TextRules {
  const model::Tokenizer* tokenizer = nullptr;
  std::vector<TokenId> eos_tokens;
  size_t vocab_size = 0;     ///< Tokens that may be chosen.
  size_t max_model_len = 0;  ///< Prompt and generated tokens of one sequence.
};

class Sequence {
 public:
  Sequence(std::shared_ptr<ActiveRequest> request, uint32_t choice, const TextRules& rules,
           uint64_t seed);

  ActiveRequest& request() const { return *request_; }
  bool is_leader() const { return choice_ == 0; }
  bool comes_before(const Sequence& other) const {
    return std::pair(request_->id, choice_) < std::pair(other.request_->id, other.choice_);
  }
  size_t num_generated() const { return tokens.size() - num_prompt; }
  bool wants_prompt_logprobs() const { return request_->request.prompt_logprobs.has_value(); }

  /// Chooses the next token from `logits`. Of different sequences at a time on any threads.
  void choose_token(std::span<const float> logits);
  /// How the next token is drawn, where take_drawn() can take the place of choose_token(): valid
  /// until then.
  std::optional<compute::Draw> next_draw() { return sampler_.next_draw(forbidden_tokens()); }
  void take_drawn(TokenId token) { chosen_ = sampler_.take_drawn(token); }
  /// Adds what was chosen, and its text, to the pending chunk.
  void append_chosen();
  void append_token(std::span<const float> logits) {
    choose_token(logits);
    append_chosen();
  }
  /// Reports the prompt token after `position` from the logits at `position`.
  void append_prompt_logprob(size_t position, std::span<const float> logits);
  /// Ends a request that wanted nothing but its prompt computed.
  void finish_without_tokens();
  /// Prompt tokens that came from the prefix cache, for the first chunk.
  void note_cached(size_t num_tokens) {
    pending_.num_cached_tokens = static_cast<uint32_t>(num_tokens);
  }
  bool finished() const { return pending_.finish.has_value(); }
  FinishReason finish_reason() const { return *pending_.finish; }
  /// Sends what has come since the last time.
  void flush();

  std::vector<TokenId> tokens;  ///< Prompt, then generated.
  const size_t num_prompt;
  size_t num_computed = 0;  ///< Leading tokens whose keys and values are in the cache.
  engine::BlockTable blocks;

  std::vector<ExpertId> experts;  ///< That the first tokens go to, as far as that is known.
  size_t num_passed_over = 0;     ///< Steps in a row that could have had it.

  /// Experts without which it cannot go on and that nobody holds: it is not planned meanwhile.
  std::optional<engine::MissingExperts> missing;
  std::optional<TimePoint> waits_since;  ///< For experts, without having advanced.

  TimePoint last_token{};  ///< When it was made.

 private:
  std::vector<TokenId> forbidden_tokens() const;
  bool is_eos(TokenId token) const;
  void append_text(engine::SampledToken sampled);
  void check_length();
  std::string token_text(TokenId token) const;

  const std::shared_ptr<ActiveRequest> request_;
  const uint32_t choice_;
  const TextRules& rules_;
  engine::Sampler sampler_;
  engine::SampledToken chosen_;  // from choose_token() to append_chosen()
  model::StreamDecoder decoder_;
  StopScanner scanner_;
  GenerationChunk pending_;
};

}  // namespace pregate::coordinator
