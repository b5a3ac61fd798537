// A GenerationService without a model: what it says is a fixed function of the prompt, the seed and
// the position, so that a client can check that every answer is its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "coordinator/scheduling/generation.h"
#include "tests/unit/api/fake_model.h"

namespace pregate::coordinator::testing {

/// One thread gives every running request a token per step.
class FakeGeneration : public GenerationService {
 public:
  struct Options {
    std::chrono::microseconds step_time{200};
    size_t max_requests = 256;
  };

  explicit FakeGeneration(Options options);
  ~FakeGeneration() override;

  Result<RequestId> submit(GenerationRequest request, GenerationListener listener) override;
  void cancel(RequestId id) override;

 private:
  struct Choice {
    std::string text;  // all of it, held-back part included
    size_t shown = 0;  // bytes of text given out
    uint32_t num_tokens = 0;
    bool finished = false;
  };
  struct Running {
    GenerationRequest request;
    GenerationListener listener;
    std::vector<Choice> choices;
    uint64_t hash = 0;  // of the prompt
  };

  void serve(const std::stop_token& stop);
  static void step(Running& running);
  static GenerationChunk next_chunk(const Running& running, uint32_t choice_idx);
  static TokenId next_token(const Running& running, uint32_t choice_idx);
  static void add_prompt(const Running& running, GenerationChunk& chunk);
  static void end_by_text(const GenerationRequest& request, Choice& choice, GenerationChunk& chunk);

  const Options options_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  uint64_t last_id_ = 0;                           // guarded by mutex_
  std::unordered_map<uint64_t, Running> running_;  // guarded by mutex_
  std::jthread thread_;
};

}  // namespace pregate::coordinator::testing
