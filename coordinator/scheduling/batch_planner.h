// Which tokens the next step computes: continuous batching with chunked prefill, decode first.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "coordinator/scheduling/sequence.h"

namespace pregate::coordinator {

struct BatchLimits {
  size_t max_step_tokens = 512;  ///< Rows of one step.
  size_t max_sequences = 64;     ///< In the running batch.
};

/// The next `num_tokens` uncomputed tokens of a sequence.
struct Slice {
  Sequence* sequence = nullptr;
  size_t num_tokens = 0;

  bool reaches_end() const {
    return sequence->num_computed + num_tokens == sequence->tokens.size();
  }
};

/// Waiting and running sequences, and the KV blocks they use. Not thread-safe.
///
/// Running sequences come first, in order of admission: those that decode take one token each,
/// those in prefill what is left of the step. When the KV cache is full, the sequence admitted last
/// gives its blocks back, waits at the head of the queue and is computed again later; so the oldest
/// always advances, and no request fails for want of cache.
class BatchPlanner {
 public:
  BatchPlanner(BatchLimits limits, engine::BlockPool& pool) : limits_(limits), pool_(pool) {}

  void add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }

  /// Reserves blocks for what it returns. Empty only when nothing is there to compute.
  std::vector<Slice> plan();
  /// The step was computed: advances its sequences and publishes their full blocks.
  void commit(const std::vector<Slice>& step);
  /// Takes out, with their blocks released, all sequences for which `predicate` holds.
  std::vector<std::unique_ptr<Sequence>> remove_if(
      const std::function<bool(const Sequence&)>& predicate);

  size_t num_waiting() const { return waiting_.size(); }
  size_t num_running() const { return running_.size(); }

  struct Counts {
    size_t num_preemptions = 0;
    size_t num_prefix_tokens_asked = 0, num_prefix_tokens_hit = 0;
  };
  /// Since the last call.
  Counts take_counts() { return std::exchange(counts_, {}); }

 private:
  bool reserve_or_preempt(Sequence& sequence, size_t num_tokens);
  void preempt_last();
  void admit(size_t budget, std::vector<Slice>& step);

  const BatchLimits limits_;
  engine::BlockPool& pool_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
  Counts counts_;
};

}  // namespace pregate::coordinator
