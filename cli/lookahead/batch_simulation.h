// The real batch planner on arrivals and a clock that are made up.
#pragma once

#include <span>

#include "cli/lookahead/workload.h"
#include "coordinator/scheduling/batch_planner.h"

namespace pregate::cli {

/// What a step takes: reading the backbone, computing rows, reading each expert once.
struct StepCost {
  double base_ms = 0, row_ms = 0, expert_ms = 0;
};

/// From what Read-ME's 7 experts made of Llama-2-7b should take on one A100 (1.5 TB/s): 5 ms for
/// what is not in experts (4.8 GB, and the starts of kernels), 2.8 ms to read the 4 GiB of an
/// expert's layers, 0.06 ms to compute a row.
inline constexpr StepCost kInMemory{.base_ms = 5, .row_ms = 0.06, .expert_ms = 2.8};

struct BatchOutcome {
  size_t num_steps = 0;
  double mean_rows = 0, mean_experts = 0;  ///< Of a step; experts: distinct ones.
  double mean_ms = 0, p95_ms = 0;  ///< Of the requests: arrival to last token, per token generated.
  double mean_gap_ms = 0, p95_gap_ms = 0;      ///< Between two tokens of an answer.
  double mean_plan_us = 0;                     ///< Real time that the planner took for a step.
  std::vector<std::vector<ExpertId>> experts;  ///< [step], distinct ones, ascending
};

struct BatchSimulationOptions {
  coordinator::BatchLimits limits;
  coordinator::BatchPolicyOptions policy;
  StepCost cost;
};

/// Until all is answered. The KV cache has room for all.
BatchOutcome simulate_batches(std::span<const Arrival> arrivals,
                              const BatchSimulationOptions& options);

double mean(std::span<const double> values);
/// The smallest that at least this share of the values do not exceed.
double percentile(std::vector<double> values, double share);

}  // namespace pregate::cli
