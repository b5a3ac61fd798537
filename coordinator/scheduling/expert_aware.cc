#include "coordinator/scheduling/expert_aware.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace pregate::coordinator {
namespace {

using ExpertSet = std::vector<ExpertId>;  // ascending, each once

struct Queue {
  ExpertSet experts;
  std::vector<size_t> items;  // decodes before prefills, the longest waiting first
  size_t num_tokens = 0;
};

size_t tokens_of(const Candidate& candidate, size_t budget) {
  return std::min(candidate.num_tokens, budget);
}

/// Of the tokens that a step with this budget could take.
ExpertSet experts_of(const Candidate& candidate, size_t budget) {
  const size_t count = std::min(tokens_of(candidate, budget), candidate.experts.size());
  const auto known = candidate.experts.first(count);
  ExpertSet experts(known.begin(), known.end());
  std::ranges::sort(experts);
  const auto doubles = std::ranges::unique(experts);
  experts.erase(doubles.begin(), doubles.end());
  return experts;
}

ExpertSet joined(const ExpertSet& a, const ExpertSet& b) {
  ExpertSet both;
  std::ranges::set_union(a, b, std::back_inserter(both));
  return both;
}

ExpertSet without(const ExpertSet& a, const ExpertSet& b) {
  ExpertSet rest;
  std::ranges::set_difference(a, b, std::back_inserter(rest));
  return rest;
}

/// The batch as it grows.
class Batch {
 public:
  Batch(std::span<const Candidate> candidates, size_t budget, const ExpertLoad& load)
      : candidates_(candidates), budget_(budget), left_(budget), load_(load) {}

  void take(const std::vector<size_t>& items) {
    for (const size_t i : items) {
      experts_ = joined(experts_, experts_of(candidates_[i], left_));
      left_ -= tokens_of(candidates_[i], left_);
    }
    order_.insert(order_.end(), items.begin(), items.end());
  }

  /// Queue by queue, until the budget is spent; what is left then comes in any order.
  void take_queues(const std::vector<size_t>& items) {
    make_queues(items);
    while (!queues_.empty() && left_ > 0) take_with(*best_queue());
    for (const Queue& queue : queues_) take(queue.items);
  }

  std::vector<size_t> order() && { return std::move(order_); }

 private:
  void make_queues(const std::vector<size_t>& items) {
    std::map<ExpertSet, Queue> queues;
    for (const size_t i : items) {
      Queue& queue = queues[experts_of(candidates_[i], budget_)];
      queue.items.push_back(i);
      queue.num_tokens += tokens_of(candidates_[i], budget_);
    }
    for (auto& [experts, queue] : queues) {
      queue.experts = experts;
      sort(queue.items);
      queues_.push_back(std::move(queue));
    }
  }

  void sort(std::vector<size_t>& items) const {
    std::ranges::stable_sort(items, [&](size_t a, size_t b) {
      const Candidate &first = candidates_[a], &second = candidates_[b];
      const bool decodes = first.num_tokens == 1;
      if (decodes != (second.num_tokens == 1)) return decodes;
      if (first.num_passed_over != second.num_passed_over) {
        return first.num_passed_over > second.num_passed_over;
      }
      return a < b;
    });
  }

  struct Worth {
    size_t num_tokens = 0, num_new_experts = 0;
    double load = 0;
    size_t num_passed_over = 0;  // of who waited longest
    bool is_known = true;
  };

  // Whether `other` needs no expert but those that the batch has with `queue`.
  static bool comes_with(const Queue& other, const Queue& queue, const ExpertSet& then) {
    if (other.experts.empty() || queue.experts.empty()) return &other == &queue;
    return std::ranges::includes(then, other.experts);
  }

  Worth worth_of(const Queue& queue) const {
    const ExpertSet then = joined(experts_, queue.experts);
    Worth worth{.is_known = !queue.experts.empty()};
    for (const Queue& other : queues_) {
      if (comes_with(other, queue, then)) worth.num_tokens += other.num_tokens;
    }
    worth.num_tokens = std::min(worth.num_tokens, left_);
    for (const size_t i : queue.items) {
      worth.num_passed_over = std::max(worth.num_passed_over, candidates_[i].num_passed_over);
    }
    worth.num_new_experts = then.size() - experts_.size();
    for (const ExpertId expert : without(queue.experts, experts_)) worth.load += load_(expert);
    return worth;
  }

  static bool is_better(const Worth& a, const Worth& b) {
    if (a.is_known != b.is_known) return a.is_known;
    const size_t first = a.num_tokens * b.num_new_experts;
    const size_t second = b.num_tokens * a.num_new_experts;
    if (first != second) return first > second;
    return a.load != b.load ? a.load < b.load : a.num_passed_over > b.num_passed_over;
  }

  std::vector<Queue>::const_iterator best_queue() const {
    auto best = queues_.begin();
    Worth best_worth = worth_of(*best);
    for (auto queue = std::next(best); queue != queues_.end(); ++queue) {
      const Worth worth = worth_of(*queue);
      if (!is_better(worth, best_worth)) continue;
      best = queue;
      best_worth = worth;
    }
    return best;
  }

  // The queue, and all others that need no expert beyond.
  void take_with(const Queue& queue) {
    const ExpertSet then = joined(experts_, queue.experts);
    std::vector<size_t> items;
    std::vector<Queue> left;
    for (Queue& other : queues_) {
      if (comes_with(other, queue, then)) {
        items.insert(items.end(), other.items.begin(), other.items.end());
      } else {
        left.push_back(other);
      }
    }
    queues_ = std::move(left);
    sort(items);
    take(items);
  }

  const std::span<const Candidate> candidates_;
  const size_t budget_;
  size_t left_;
  const ExpertLoad& load_;
  ExpertSet experts_;  // of what the batch has so far
  std::vector<Queue> queues_;
  std::vector<size_t> order_;
};

}  // namespace

std::vector<size_t> ExpertAware::order(std::span<const Candidate> candidates, size_t budget) const {
  std::vector<size_t> rest(candidates.size());
  std::iota(rest.begin(), rest.end(), size_t{0});
  Batch batch(candidates, budget, expert_load_);
  batch.take(take_passed_over(candidates, max_passed_over_, rest));
  batch.take_queues(rest);
  return std::move(batch).order();
}

}  // namespace pregate::coordinator
