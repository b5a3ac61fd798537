// `pregate bench`: how fast this machine, or this cluster, runs a model, and how fast it could be.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/run_with_experts.h"

namespace pregate::cli {

struct BenchOptions : ExpertsOptions {
  uint64_t kv_cache_bytes = uint64_t{2} << 30;
  size_t num_prompt_tokens = 512;
  size_t num_chunk_tokens = 512;   ///< Of prefill, per step.
  size_t num_context_tokens = 64;  ///< Before decode begins.
  size_t num_decode_steps = 32;
  std::string batches = "1,4,8,16,32";
  size_t num_repeats = 3;
  double top_p = 0;  ///< At temperature 1; 0: greedy.
};

/// "1,4,8" as numbers; an error names what is not one.
Result<std::vector<size_t>> parse_numbers(const std::string& flag, const std::string& text);

Command add_bench(CLI::App& app, std::function<Status(const BenchOptions&)> run);

}  // namespace pregate::cli
