// The tables of `pregate bench lookahead`. Each loads what it needs and prints as it goes.
#pragma once

#include "cli/run_with_experts.h"
#include "cli/text_windows.h"

namespace pregate::cli {

struct BenchLookaheadOptions : ExpertsOptions {
  BenchLookaheadOptions() { text.window_tokens = 128; }

  TextOptions text;
  std::string batches = "1,8";
  size_t num_context_tokens = 32;  ///< Of a window, computed in one step; the rest is decoded.
  size_t num_windows = 16;         ///< For each batch, of all texts in turn; 0: all.
  size_t depth = 1;
  std::filesystem::path replay;  ///< A trace; empty: none.
  std::string budgets = "25,50,75";
  size_t num_repeats = 3;
  size_t num_requests = 2000;  ///< That are made up for --hit-ratio and --batching.
  uint64_t seed = 1;           ///< Of these.
  bool accuracy = false, hit_ratio = false, speed = false, batching = false;
};

/// --budgets, each at most 100.
Result<std::vector<size_t>> parse_budgets(const BenchLookaheadOptions& options);

/// How often each source of guesses is right, layer by layer.
Status print_accuracy(const BenchLookaheadOptions& options, const ExpertsHooks& experts,
                      const PhaseProgress& loading);
/// How often an expert that is needed is in memory, for each eviction policy: on the traces among
/// the texts, and on requests of the shape that Read-ME publishes.
Status print_hit_ratio(const BenchLookaheadOptions& options, const ExpertsHooks& experts,
                       const PhaseProgress& loading);
/// Tokens per second with a part of the experts in memory: loaded on demand, guessed, and known.
Status print_speed(const BenchLookaheadOptions& options, const ExpertsHooks& experts,
                   const PhaseProgress& loading);
/// The batch policies on the same arrivals, by a clock that is made up; and, if the model has a
/// pre-gating router, on the engine.
Status print_batching(const BenchLookaheadOptions& options, const ExpertsHooks& experts,
                      const PhaseProgress& loading);

}  // namespace pregate::cli
