// Which sequences come first when a step has not room for all.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace pregate::coordinator {

/// A sequence that could be in the next step.
struct Candidate {
  bool is_running = false;  ///< Else it waits to be admitted, and there is a place.
  size_t num_tokens = 0;    ///< Left to compute: 1 while it decodes. Prefixes in the cache count.
  size_t num_passed_over =
      0;  ///< Steps in a row that had it as a candidate and went by without it.
  /// Of its next tokens, one each, as far as they are known.
  std::span<const ExpertId> experts;
};

/// Pure: the same candidates give the same order. Thread-safe.
class BatchPolicy {
 public:
  virtual ~BatchPolicy() = default;
  /// Whether Candidate::experts is read.
  virtual bool reads_experts() const { return false; }
  /// Indices of all candidates, those first who take first of the step's `budget` tokens (at least
  /// 1): each takes what it has left to compute, or what is left of the budget. `candidates` are
  /// those that run, in order of admission, then those that wait, in order of arrival.
  virtual std::vector<size_t> order(std::span<const Candidate> candidates, size_t budget) const = 0;
};

enum class BatchPolicyName {
  kDecodeFirst,   ///< Who decodes, who is in prefill, who waits.
  kPrefillFirst,  ///< Who is in prefill, who waits, who decodes.
  kExpertAware,   ///< As few experts in a step as can be. See expert_aware.h.
};

/// As flags and metrics have it.
std::string_view to_string(BatchPolicyName name);

/// How busy the workers are that an expert would be computed on, in any unit.
using ExpertLoad = std::function<double(ExpertId)>;

struct BatchPolicyOptions {
  BatchPolicyName name = BatchPolicyName::kDecodeFirst;
  /// Who was passed over so often goes first. Of prefill-first and expert-aware; with decode-first
  /// only a step with fewer tokens than there are sequences passes over who decodes.
  size_t max_passed_over = 8;
  /// Of expert-aware: of queues that are equal otherwise, that of the less busy expert comes first.
  ExpertLoad expert_load = [](ExpertId) { return 0.0; };
};

std::unique_ptr<BatchPolicy> make_batch_policy(const BatchPolicyOptions& options);

/// Takes out of `indices` those that were passed over `max_passed_over` times, the longest waiting
/// first, and those that run before those that wait.
std::vector<size_t> take_passed_over(std::span<const Candidate> candidates, size_t max_passed_over,
                                     std::vector<size_t>& indices);

}  // namespace pregate::coordinator
