#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

enum class Finish { kStop, kLength, kAbort, kError };

/// One request's history, told once at its end. A phase that was never reached stays zero.
struct FinishedRequest {
  Finish finish = Finish::kStop;
  uint32_t prompt_tokens = 0;
  uint32_t generation_tokens = 0;  ///< Of all its choices.
  uint32_t num_choices = 1;
  uint32_t max_tokens = 0;
  Duration prefill{};  ///< First scheduled until the first token.
  Duration decode{};   ///< First token until the last.
  Duration total{};    ///< Arrival until the last token.
};

/// Sum and number of what was observed.
struct Observed {
  double seconds = 0;
  uint64_t count = 0;
};

/// How a server is doing, for those who watch it without scraping.
struct ServingFigures {
  uint64_t running = 0, waiting = 0;
  uint64_t waiting_for_experts = 0;
  double cache_usage = 0;
  uint64_t prompt_tokens = 0, generated_tokens = 0;  ///< Since the start.
  Observed first_token, inter_token;                 ///< Since the start.
};

/// What the scheduler and its engine count, under vLLM's names so that dashboards and gateways made
/// for it work unchanged. Thread-safe.
class ServingProbe {
 public:
  ServingProbe(Registry& registry, const std::string& model_name);

  void set_cache_config(uint32_t block_tokens, uint64_t num_blocks);
  /// How it is chosen who comes first when a step has not room for all.
  void set_batch_policy(const std::string& name);
  /// Distinct experts that the rows of one step went to in one MoE layer.
  void layer_routed(uint64_t num_experts) {
    layer_experts_.Observe(static_cast<double>(num_experts));
  }
  void set_queues(uint64_t running, uint64_t waiting);
  /// Of those waiting: for experts that no worker holds.
  void set_waiting_for_experts(uint64_t sequences) {
    waiting_for_experts_.Set(static_cast<double>(sequences));
  }
  /// A sequence goes on after so long without an expert.
  void waited_for_experts(Duration duration) { expert_wait_.Observe(to_seconds(duration)); }
  /// `used`: share of the KV cache's blocks, 0 to 1.
  void set_cache_usage(double used) { cache_usage_.Set(used); }

  /// One step of the engine: prompt tokens computed and tokens generated in it.
  void step_finished(uint64_t prompt_tokens, uint64_t generated_tokens);
  void first_scheduled(Duration since_arrival) { queue_.Observe(to_seconds(since_arrival)); }
  void first_token(Duration since_arrival) { first_token_.Observe(to_seconds(since_arrival)); }
  void next_token(Duration since_last) { inter_token_.Observe(to_seconds(since_last)); }
  void preempted() { preemptions_.Increment(); }
  /// Tokens of a prompt looked up in the prefix cache, and how many of them were there.
  void prefix_looked_up(uint64_t tokens, uint64_t hits);
  void request_finished(const FinishedRequest& request);
  /// It was accepted, and ended because experts could not be reached.
  void request_lost() { lost_.Increment(); }

  /// What was told so far.
  ServingFigures figures() const;

 private:
  prometheus::Counter& counter(const std::string& name, const std::string& help);
  prometheus::Gauge& gauge(const std::string& name, const std::string& help);
  prometheus::Histogram& histogram(const std::string& name, const std::string& help,
                                   const Buckets& buckets);

  Registry& registry_;
  const prometheus::Labels labels_;  // of every series here

  prometheus::Counter& lost_;
  prometheus::Gauge& waiting_for_experts_;
  prometheus::Histogram& expert_wait_;
  prometheus::Histogram& layer_experts_;
  prometheus::Gauge& running_;
  prometheus::Gauge& waiting_;
  prometheus::Gauge& cache_usage_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& generation_tokens_;
  prometheus::Counter& preemptions_;
  prometheus::Counter& prefix_queries_;
  prometheus::Counter& prefix_hits_;
  std::array<prometheus::Counter*, 4> success_;  // by Finish

  prometheus::Histogram& first_token_;
  prometheus::Histogram& inter_token_;
  prometheus::Histogram& time_per_token_;
  prometheus::Histogram& total_;
  prometheus::Histogram& queue_;
  prometheus::Histogram& inference_;
  prometheus::Histogram& prefill_;
  prometheus::Histogram& decode_;
  prometheus::Histogram& request_prompt_tokens_;
  prometheus::Histogram& request_generation_tokens_;
  prometheus::Histogram& params_n_;
  prometheus::Histogram& params_max_tokens_;
  prometheus::Histogram& iteration_tokens_;
};

}  // namespace pregate::monitoring
