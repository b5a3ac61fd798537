// Times the engine itself: prefill of one prompt, decode of several sequences at once.
#pragma once

#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "engine/engine.h"

namespace pregate::cli {

/// What one timed run did.
struct BenchRun {
  double seconds = 0;
  size_t num_tokens = 0;  ///< Computed in all.
  size_t num_steps = 0;
  size_t num_experts_touched = 0;  ///< Distinct (layer, expert) per step, summed over the steps.

  double tokens_per_second() const { return static_cast<double>(num_tokens) / seconds; }
};

/// Uses the engine's whole KV cache; the engine must do nothing else meanwhile.
class EngineBench {
 public:
  /// `draw`: how a step's tokens are drawn.
  EngineBench(engine::Engine& engine, size_t num_kv_blocks, const compute::Draw& draw,
              uint64_t seed);

  /// One prompt of random tokens, computed `chunk_tokens` at a time.
  Result<BenchRun> prefill(size_t num_tokens, size_t chunk_tokens);
  /// `batch` sequences of `context_tokens` (not timed) that each decode `num_steps` tokens.
  Result<BenchRun> decode(size_t batch, size_t context_tokens, size_t num_steps);

 private:
  struct Stream {
    std::vector<TokenId> tokens;
    std::vector<uint32_t> blocks;
    size_t num_computed = 0;
  };

  Result<std::vector<Stream>> make_streams(size_t count, size_t num_tokens, size_t room_tokens);
  Status compute(std::vector<Stream>& streams, size_t num_tokens_each);
  TokenId random_token();
  void count_experts(const router::Decisions& decisions);

  engine::Engine& engine_;
  const size_t num_kv_blocks_;
  compute::Draw draw_;
  Random random_;
  size_t num_experts_touched_ = 0;
  std::vector<bool> touched_;  // scratch
};

/// The middle one by time.
BenchRun median_run(std::vector<BenchRun> runs);

}  // namespace pregate::cli
