#include "worker/experts/cache/simulate.h"

#include <algorithm>

#include "base/check.h"

namespace pregate::worker {
namespace {

class Simulation {
 public:
  Simulation(std::span<const ExpertSet> trace, const SimulationOptions& options,
             EvictionPolicy& policy)
      : trace_(trace), options_(options), policy_(policy) {}

  SimulationResult run() {
    for (size_t time = 0; time < trace_.size(); ++time) {
      learn(time);
      uses_.pass(time);
      serve(time);
    }
    return result_;
  }

 private:
  /// What comes into view at `time`.
  void learn(size_t time) {
    const size_t left = trace_.size() - 1 - time;
    size_t end = time + std::min(options_.horizon, left) + 1;
    const size_t step = options_.step_times;
    if (step > 0) end = std::min(end, (time / step + 1) * step);
    router::Plan plan;
    for (num_known_ = std::max(num_known_, time); num_known_ < end; ++num_known_) {
      for (const ExpertKey& key : trace_[num_known_]) {
        plan.push_back(
            {.layer = key.first, .expert = key.second, .when = num_known_, .certain = true});
      }
    }
    uses_.add(plan);
  }

  void serve(size_t time) {
    const ExpertSet& needed = trace_[time];
    ExpertSet missing;
    for (const ExpertKey& key : needed) {
      policy_.used(key, time);
      if (std::ranges::count(held_, key) == 0) missing.push_back(key);
    }
    result_.hits += needed.size() - missing.size();
    result_.misses += missing.size();
    for (const ExpertKey& key : missing) {
      if (held_.size() == options_.capacity) evict_one();
      held_.push_back(key);
      policy_.loaded(key);
    }
  }

  void evict_one() {
    const ExpertKey victim = held_[policy_.choose(held_, uses_)];
    policy_.evicted(victim);
    std::erase(held_, victim);
    ++result_.evictions;
  }

  const std::span<const ExpertSet> trace_;
  const SimulationOptions options_;
  EvictionPolicy& policy_;
  KnownUses uses_;
  size_t num_known_ = 0;  // times
  ExpertSet held_;
  SimulationResult result_;
};

}  // namespace

SimulationResult simulate(std::span<const ExpertSet> trace, const SimulationOptions& options,
                          EvictionPolicy& policy) {
  PREGATE_CHECK(options.capacity > 0);
  return Simulation(trace, options, policy).run();
}

}  // namespace pregate::worker
