// What the scheduler tells the metrics.
#pragma once

#include <cstddef>

#include "coordinator/scheduling/generation.h"

namespace pregate::coordinator {

/// Seconds of one finished choice, by phase.
struct ChoiceTimes {
  double queue_s = 0;    ///< Arrival to first computed.
  double prefill_s = 0;  ///< First computed to first token.
  double decode_s = 0;   ///< First token to last.
  double total_s = 0;    ///< Arrival to last token.
};

struct FinishedChoice {
  FinishReason reason = FinishReason::kStop;
  size_t num_prompt_tokens = 0;
  size_t num_generated_tokens = 0;
  size_t max_tokens = 0;
  size_t num_choices = 0;
  ChoiceTimes times;
};

/// Called on the scheduler's thread.
class SchedulerProbe {
 public:
  virtual ~SchedulerProbe() = default;
  virtual void queue_changed(size_t num_running, size_t num_waiting) = 0;
  virtual void kv_usage_changed(double used_fraction) = 0;
  virtual void step_finished(size_t num_prompt_tokens, size_t num_generated_tokens) = 0;
  virtual void prefix_looked_up(size_t num_tokens, size_t num_hit_tokens) = 0;
  virtual void preempted() = 0;
  virtual void first_token(double since_arrival_s) = 0;
  virtual void next_token(double since_last_s) = 0;
  virtual void choice_finished(const FinishedChoice& choice) = 0;
};

}  // namespace pregate::coordinator
