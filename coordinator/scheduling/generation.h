// What the API asks of the scheduler and what comes back.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "engine/sampling/sampling_params.h"

namespace pregate::coordinator {

struct GenerationRequest {
  std::vector<TokenId> prompt;  ///< Not empty, shorter than the context.
  engine::SamplingParams sampling;
  uint32_t num_choices = 1;  ///< "n": independent continuations of the prompt.
  uint32_t max_tokens = 16;  ///< 0: only the prompt is computed (for echo with logprobs).
  uint32_t min_tokens = 0;   ///< Stop tokens and strings do not count before.
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop_in_text = false;
  bool skip_special_tokens = true;
  std::optional<uint32_t>
      prompt_logprobs;  ///< Report the prompt's tokens with so many alternatives.
};

struct GeneratedToken {
  TokenId token = 0;
  float logprob = 0.0f;                   ///< Meaningful only if logprobs were asked for.
  std::vector<engine::TokenLogprob> top;  ///< Best alternatives, best first.
  std::string text;                       ///< What this token added to the stream; may be empty.
};

enum class FinishReason { kStop, kLength, kAborted };

/// A piece of one choice. Exactly one chunk per choice has `finish`; it is the choice's last.
struct GenerationChunk {
  uint32_t choice = 0;
  std::string text;  ///< Safe to show: whole UTF-8, no part of a stop string.
  std::vector<GeneratedToken> tokens;
  std::optional<FinishReason> finish;
  std::variant<std::monostate, TokenId, std::string> stop_reason;  ///< What stopped it, if not EOS.
  /// With prompt_logprobs, in the first chunk: one entry per prompt token; the first one's logprob
  /// means nothing.
  std::vector<GeneratedToken> prompt_tokens;
  uint32_t num_cached_tokens = 0;  ///< Prompt tokens taken from the prefix cache.
};

/// Called on the scheduler's thread: must not block. After on_error nothing else comes.
struct GenerationListener {
  std::function<void(GenerationChunk)> on_chunk;
  std::function<void(const Error&)> on_error;
};

/// Thread-safe.
class GenerationService {
 public:
  virtual ~GenerationService() = default;
  /// kResourceExhausted: the queue is full, try later. kUnavailable: not ready, draining, or a
  /// needed worker is gone. kInvalidArgument: can never fit.
  virtual Result<RequestId> submit(GenerationRequest request, GenerationListener listener) = 0;
  /// The request ends within one step. Chunks already under way may still arrive. Unknown ids are
  /// ignored.
  virtual void cancel(RequestId id) = 0;
};

}  // namespace pregate::coordinator
