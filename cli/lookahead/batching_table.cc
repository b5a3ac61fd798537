// The batch policies against one another.
//
// A step costs base + row * rows + expert * distinct experts. Where experts come over a host link
// of 25 GB/s instead of from memory (kInMemory), one takes 173 ms.
#include <string>

#include <fmt/format.h>

#include "cli/lookahead/batch_simulation.h"
#include "cli/lookahead/real_batches.h"
#include "cli/lookahead/tables.h"

namespace pregate::cli {
namespace {

using coordinator::BatchPolicyName;

constexpr StepCost kOverLink{.base_ms = 5, .row_ms = 0.06, .expert_ms = 173};

struct Scenario {
  const char* what;
  coordinator::BatchLimits limits;
  double requests_per_second;
  StepCost cost;
};

// Decode-first can serve about 2.4, 8 and, over a link, 0.19 requests per second.
const Scenario kScenarios[] = {
    {"16 rows, 60 % load", {16, 64}, 1.45, kInMemory},
    {"16 rows, 80 % load", {16, 64}, 1.95, kInMemory},
    {"16 rows, 95 % load", {16, 64}, 2.3, kInMemory},
    {"64 rows, 60 % load", {64, 128}, 4.7, kInMemory},
    {"64 rows, 75 % load", {64, 128}, 6.0, kInMemory},
    {"64 rows, 95 % load", {64, 128}, 7.5, kInMemory},
    {"64 rows, 75 % load, experts over a link", {64, 128}, 0.145, kOverLink},
    {"512 rows (the defaults): room for all", {512, 64}, 7.0, kInMemory},
};

std::string change(double value, double base) {
  return fmt::format("{:+.1f} %", 100 * (value / base - 1));
}

void print_scenario(const Scenario& scenario, const BenchLookaheadOptions& options) {
  const auto arrivals = make_arrivals({.seed = options.seed,
                                       .num_requests = options.num_requests,
                                       .requests_per_second = scenario.requests_per_second});
  fmt::print("\n{}: {} tokens a step, {} sequences, {} requests/s, {} ms an expert\n",
             scenario.what, scenario.limits.max_step_tokens, scenario.limits.max_sequences,
             scenario.requests_per_second, scenario.cost.expert_ms);
  fmt::print("{:<14} {:>7} {:>6} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8}\n", "policy", "steps", "rows",
             "experts", "ms/token", "p95", "ms gap", "p95 gap", "plan us");
  std::vector<BatchOutcome> outcomes;
  for (const auto name : {BatchPolicyName::kDecodeFirst, BatchPolicyName::kPrefillFirst,
                          BatchPolicyName::kExpertAware}) {
    const BatchOutcome& o = outcomes.emplace_back(simulate_batches(
        arrivals, {.limits = scenario.limits, .policy = {.name = name}, .cost = scenario.cost}));
    fmt::print("{:<14} {:>7} {:>6.1f} {:>8.2f} {:>9.2f} {:>9.2f} {:>9.2f} {:>9.2f} {:>8.1f}\n",
               to_string(name), o.num_steps, o.mean_rows, o.mean_experts, o.mean_ms, o.p95_ms,
               o.mean_gap_ms, o.p95_gap_ms, o.mean_plan_us);
  }
  const BatchOutcome& aware = outcomes[2];
  for (const size_t i : {0, 1}) {
    fmt::print(
        "expert-aware against {}: mean {}, p95 {}\n", i == 0 ? "decode-first" : "prefill-first",
        change(aware.mean_ms, outcomes[i].mean_ms), change(aware.p95_ms, outcomes[i].p95_ms));
  }
}

}  // namespace

Status print_batching(const BenchLookaheadOptions& options, const ExpertsHooks&,
                      const PhaseProgress&) {
  fmt::print(
      "\nBatch policies, simulated. ms/token: of a request, arrival to last token over the tokens "
      "generated. gap: from one token to the next.\n");
  for (const Scenario& scenario : kScenarios) print_scenario(scenario, options);
  return print_real_batches(options.model, options.seed);
}

}  // namespace pregate::cli
