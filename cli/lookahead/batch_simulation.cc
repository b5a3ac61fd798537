#include "cli/lookahead/batch_simulation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <set>

#include "cli/lookahead/no_text.h"

namespace pregate::cli {
namespace {

using coordinator::ActiveRequest;
using coordinator::Sequence;
using coordinator::Slice;

class Simulation {
 public:
  Simulation(std::span<const Arrival> arrivals, const BatchSimulationOptions& options)
      : arrivals_(arrivals),
        options_(options),
        pool_(blocks_for(arrivals), /*prefix_caching=*/false),
        planner_(options.limits, pool_, make_batch_policy(options.policy)),
        last_token_ms_(arrivals.size(), -1) {}

  BatchOutcome run() {
    while (next_ < arrivals_.size() || planner_.num_running() + planner_.num_waiting() > 0) {
      if (planner_.num_running() + planner_.num_waiting() == 0) now_ms_ = arrivals_[next_].at_ms;
      while (next_ < arrivals_.size() && arrivals_[next_].at_ms <= now_ms_) arrive();
      step();
    }
    const auto num_steps = static_cast<double>(outcome_.num_steps);
    outcome_.mean_rows /= num_steps;
    outcome_.mean_experts /= num_steps;
    outcome_.mean_plan_us /= num_steps;
    outcome_.mean_ms = mean(per_token_ms_);
    outcome_.p95_ms = percentile(std::move(per_token_ms_), 0.95);
    outcome_.mean_gap_ms = mean(gaps_ms_);
    outcome_.p95_gap_ms = percentile(std::move(gaps_ms_), 0.95);
    return outcome_;
  }

 private:
  static size_t blocks_for(std::span<const Arrival> arrivals) {
    size_t num_blocks = 0;
    for (const Arrival& arrival : arrivals) {
      num_blocks += arrival.experts.size() / compute::kKvBlockTokens + 1;
    }
    return num_blocks;
  }

  const Arrival& arrival_of(const Sequence& sequence) const {
    return arrivals_[sequence.request().id.value];
  }

  void arrive() {
    const Arrival& arrival = arrivals_[next_];
    auto request = std::make_shared<ActiveRequest>();
    request->id = RequestId(next_++);
    request->request.prompt.resize(arrival.num_prompt);
    request->request.max_tokens = static_cast<uint32_t>(arrival.num_answer);
    request->listener.on_chunk = [](const coordinator::GenerationChunk&) {};
    request->num_open_choices = 1;
    auto sequence = std::make_unique<Sequence>(std::move(request), 0, rules_, 0);
    sequence->experts.assign(arrival.experts.begin(),
                             arrival.experts.begin() + static_cast<ptrdiff_t>(arrival.num_prompt));
    planner_.add(std::move(sequence));
  }

  void step() {
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<Slice> slices = planner_.plan();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    pay(slices);
    outcome_.mean_plan_us += took.count();
    for (const Slice& slice : slices) {
      if (slice.reaches_end()) generate(*slice.sequence);
    }
    planner_.commit(slices);
    for (const Slice& slice : slices) slice.sequence->flush();
    planner_.remove_if([](const Sequence& sequence) { return sequence.finished(); });
  }

  void pay(const std::vector<Slice>& slices) {
    size_t num_rows = 0;
    std::set<ExpertId> experts;
    for (const Slice& slice : slices) {
      num_rows += slice.num_tokens;
      const auto& all = slice.sequence->experts;
      const auto first = all.begin() + static_cast<ptrdiff_t>(slice.sequence->num_computed);
      experts.insert(first, first + static_cast<ptrdiff_t>(slice.num_tokens));
    }
    const StepCost& cost = options_.cost;
    now_ms_ += cost.base_ms + cost.row_ms * static_cast<double>(num_rows) +
               cost.expert_ms * static_cast<double>(experts.size());
    ++outcome_.num_steps;
    outcome_.mean_rows += static_cast<double>(num_rows);
    outcome_.mean_experts += static_cast<double>(experts.size());
    outcome_.experts.emplace_back(experts.begin(), experts.end());
  }

  void generate(Sequence& sequence) {
    const Arrival& arrival = arrival_of(sequence);
    sequence.append_token(std::vector<float>{1.0f, 0.0f});
    double& last = last_token_ms_[sequence.request().id.value];
    if (last >= 0) gaps_ms_.push_back(now_ms_ - last);
    last = now_ms_;
    if (sequence.finished()) {
      per_token_ms_.push_back((now_ms_ - arrival.at_ms) / static_cast<double>(arrival.num_answer));
    } else {
      sequence.experts.push_back(arrival.experts[sequence.experts.size()]);
    }
  }

  const std::span<const Arrival> arrivals_;
  const BatchSimulationOptions& options_;
  const NoText tokenizer_{2};
  const coordinator::TextRules rules_{&tokenizer_, {}, 2, 1 << 20};
  engine::BlockPool pool_;
  coordinator::BatchPlanner planner_;
  size_t next_ = 0;
  double now_ms_ = 0;
  std::vector<double> last_token_ms_;  // by request; below 0: none yet
  std::vector<double> per_token_ms_, gaps_ms_;
  BatchOutcome outcome_;
};

}  // namespace

BatchOutcome simulate_batches(std::span<const Arrival> arrivals,
                              const BatchSimulationOptions& options) {
  return Simulation(arrivals, options).run();
}

double mean(std::span<const double> values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  const auto nth = values.begin() + std::max<ptrdiff_t>(static_cast<ptrdiff_t>(rank) - 1, 0);
  std::ranges::nth_element(values, nth);
  return *nth;
}

}  // namespace pregate::cli
