#include "coordinator/scheduling/batch_policy.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "base/check.h"
#include "coordinator/scheduling/expert_aware.h"

namespace pregate::coordinator {
namespace {

std::vector<size_t> all_indices(std::span<const Candidate> candidates) {
  std::vector<size_t> indices(candidates.size());
  std::iota(indices.begin(), indices.end(), size_t{0});
  return indices;
}

enum Kind { kDecodes, kPrefills, kWaits };

Kind kind_of(const Candidate& candidate) {
  if (!candidate.is_running) return kWaits;
  return candidate.num_tokens == 1 ? kDecodes : kPrefills;
}

/// One kind after the other, each in the order given.
class KindByKind final : public BatchPolicy {
 public:
  /// `ranks[kind]`. Nothing if `max_passed_over` is none: then nobody jumps the queue.
  KindByKind(std::array<int, 3> ranks, std::optional<size_t> max_passed_over)
      : ranks_(ranks), max_passed_over_(max_passed_over) {}

  std::vector<size_t> order(std::span<const Candidate> candidates,
                            size_t /*budget*/) const override {
    std::vector<size_t> indices = all_indices(candidates), order;
    if (max_passed_over_) order = take_passed_over(candidates, *max_passed_over_, indices);
    std::ranges::stable_sort(indices, {}, [&](size_t i) { return ranks_[kind_of(candidates[i])]; });
    order.insert(order.end(), indices.begin(), indices.end());
    return order;
  }

 private:
  const std::array<int, 3> ranks_;
  const std::optional<size_t> max_passed_over_;
};

}  // namespace

std::string_view to_string(BatchPolicyName name) {
  switch (name) {
    case BatchPolicyName::kDecodeFirst:
      return "decode-first";
    case BatchPolicyName::kPrefillFirst:
      return "prefill-first";
    case BatchPolicyName::kExpertAware:
      return "expert-aware";
  }
  PREGATE_CHECK(false);
}

std::unique_ptr<BatchPolicy> make_batch_policy(const BatchPolicyOptions& options) {
  switch (options.name) {
    case BatchPolicyName::kDecodeFirst:
      // A token somebody is reading along with must not wait for a prompt.
      return std::make_unique<KindByKind>(std::array{0, 1, 2}, std::nullopt);
    case BatchPolicyName::kPrefillFirst:
      return std::make_unique<KindByKind>(std::array{2, 0, 1}, options.max_passed_over);
    case BatchPolicyName::kExpertAware:
      return std::make_unique<ExpertAware>(options.max_passed_over, options.expert_load);
  }
  PREGATE_CHECK(false);
}

std::vector<size_t> take_passed_over(std::span<const Candidate> candidates, size_t max_passed_over,
                                     std::vector<size_t>& indices) {
  const auto was_not = [&](size_t i) { return candidates[i].num_passed_over < max_passed_over; };
  const auto rest = std::ranges::stable_partition(indices, was_not);
  std::vector<size_t> taken(rest.begin(), rest.end());
  indices.erase(rest.begin(), rest.end());
  std::ranges::stable_sort(taken, [&](size_t a, size_t b) {
    const Candidate &first = candidates[a], &second = candidates[b];
    if (first.is_running != second.is_running) return first.is_running;
    return first.num_passed_over > second.num_passed_over;
  });
  return taken;
}

}  // namespace pregate::coordinator
