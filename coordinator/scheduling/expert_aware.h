// Batches of few experts: Read-ME's expert-aware batching (Cai et al. 2024, arXiv 2410.19123,
// algorithm 1), which takes the longest queue first and splits only the last.
//
// Where it goes beyond the published algorithm: queues are measured in tokens, as the budget is; it
// ends when there is nothing left; who was passed over too often goes first, so that nobody who
// needs a rare expert starves; and a prefill, whose tokens cannot be separated, counts for the set
// of its experts.
#pragma once

#include "coordinator/scheduling/batch_policy.h"

namespace pregate::coordinator {

/// What the sequences of a queue have in common is the set of experts that their next tokens need.
/// The queue that comes next is the one with the most tokens per expert that the batch does not
/// have yet; tokens of other queues that need nothing else either count with it and come with it,
/// decodes before prefills. Whose experts are not known comes last.
///
/// As long as the KV cache has room, no running sequence is passed over more than `max_passed_over`
/// + (running sequences) - 1 times in a row. One that waits and was passed over so often is
/// admitted before those that were less often.
class ExpertAware final : public BatchPolicy {
 public:
  ExpertAware(size_t max_passed_over, ExpertLoad expert_load)
      : max_passed_over_(max_passed_over), expert_load_(std::move(expert_load)) {}

  bool reads_experts() const override { return true; }
  std::vector<size_t> order(std::span<const Candidate> candidates, size_t budget) const override;

 private:
  const size_t max_passed_over_;
  const ExpertLoad expert_load_;
};

}  // namespace pregate::coordinator
