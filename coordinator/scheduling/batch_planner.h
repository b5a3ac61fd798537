// Which tokens the next step computes: continuous batching with chunked prefill.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "coordinator/scheduling/batch_policy.h"
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
/// A policy says who comes first; each takes what it has left to compute, or what is left of the
/// step. When the KV cache is full, the sequence admitted last gives its blocks back, takes its
/// place in the queue again, which is in order of arrival, and is computed again later; and nobody
/// is admitted in that step. So the one admitted first never gives way, and no request fails for
/// want of cache.
///
/// A sequence whose experts nobody holds waits in the queue too, and others overtake it. It keeps
/// its blocks until somebody needs them who can go on.
class BatchPlanner {
 public:
  BatchPlanner(BatchLimits limits, engine::BlockPool& pool, std::unique_ptr<BatchPolicy> policy)
      : limits_(limits), pool_(pool), policy_(std::move(policy)) {}

  void add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }

  /// Reserves blocks for what it returns. Empty only when there is nothing that can be computed.
  std::vector<Slice> plan();
  /// The step was computed: advances its sequences and publishes their full blocks.
  void commit(const std::vector<Slice>& step);
  /// A planned sequence could not be computed for want of these experts.
  void set_aside(Sequence& sequence, engine::MissingExperts missing);
  /// Those set aside for which `predicate` holds may be planned again.
  void resume_if(const std::function<bool(const Sequence&)>& predicate);
  /// Takes out, with their blocks released, all sequences for which `predicate` holds.
  std::vector<std::unique_ptr<Sequence>> remove_if(
      const std::function<bool(const Sequence&)>& predicate);

  const BatchPolicy& policy() const { return *policy_; }
  /// Those that run, in order of admission, then those that wait, in order of arrival.
  void for_each(const std::function<void(Sequence&)>& visit);

  size_t num_waiting() const { return waiting_.size(); }
  size_t num_running() const { return running_.size(); }
  /// Of those waiting.
  size_t num_set_aside() const;

  struct Counts {
    size_t num_preemptions = 0;
    size_t num_prefix_tokens_asked = 0, num_prefix_tokens_hit = 0;
  };
  /// Since the last call.
  Counts take_counts() { return std::exchange(counts_, {}); }

 private:
  std::vector<Sequence*> candidates() const;
  bool may_be_admitted(const Sequence& sequence) const;
  size_t extend(Sequence& sequence, size_t budget);
  size_t admit(Sequence& sequence, size_t budget);
  bool reserve_or_preempt(Sequence& sequence, size_t num_tokens);
  void preempt_last();
  bool preempt_waiting(const Sequence& in_favour_of);
  void preempt(Sequence& sequence);
  void put_back(std::unique_ptr<Sequence> sequence);
  void take_prefix(Sequence& sequence);
  void note_prefix(Sequence& sequence);

  const BatchLimits limits_;
  engine::BlockPool& pool_;
  const std::unique_ptr<BatchPolicy> policy_;
  std::deque<std::unique_ptr<Sequence>> waiting_;   // in order of arrival
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
  bool admitting_ = true;                           // in this step
  Counts counts_;
};

}  // namespace pregate::coordinator
