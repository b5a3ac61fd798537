#include "cli/run_bench.h"

#include <algorithm>
#include <map>

#include "cli/bench_cost.h"
#include "cli/engine_bench.h"
#include "compute/limits.h"

namespace pregate::cli {
namespace {

/// The runs of one line of the table; 0 streams: prefill.
using Runs = std::map<size_t, std::vector<BenchRun>>;

RuntimeOptions runtime_options(const BenchOptions& options, size_t max_batch) {
  return {.model = options.model.model,
          .weights = options.model.weights,
          .backend = options.model.backend,
          .num_threads = thread_count(options.model.num_threads),
          .kv_cache_bytes = options.kv_cache_bytes,
          .max_model_len = std::max(options.num_prompt_tokens,
                                    options.num_context_tokens + options.num_decode_steps),
          .max_num_seqs = max_batch};
}

compute::Draw draw_of(const BenchOptions& options) {
  if (options.top_p == 0) return {};
  return {.temperature = 1.0f, .top_p = static_cast<float>(options.top_p)};
}

// The kinds of runs take turns, so that a change in the machine's speed meets them all.
Result<Runs> measure(const BenchOptions& options, const std::vector<size_t>& batches,
                     ModelRuntime& runtime) {
  EngineBench bench(runtime.engine(), runtime.num_kv_blocks(), draw_of(options), /*seed=*/1);
  PREGATE_TRY(bench.decode(1, 16, 2));  // warm up
  Runs runs;
  for (size_t repeat = 0; repeat < options.num_repeats; ++repeat) {
    PREGATE_ASSIGN(const BenchRun prefill,
                   bench.prefill(options.num_prompt_tokens, options.num_chunk_tokens));
    runs[0].push_back(prefill);
    for (const size_t batch : batches) {
      PREGATE_ASSIGN(const BenchRun decode,
                     bench.decode(batch, options.num_context_tokens, options.num_decode_steps));
      runs[batch].push_back(decode);
    }
  }
  return runs;
}

double peak_ops(const compute::MachineLimits& limits, compute::WeightFormat format) {
  switch (format) {
    case compute::WeightFormat::kF32:
      return limits.f32_flops;
    case compute::WeightFormat::kBf16:
    case compute::WeightFormat::kF8:
      return limits.bf16_flops;
    case compute::WeightFormat::kQ8:
    case compute::WeightFormat::kQ4:
      return limits.int8_ops_per_s;
  }
  return 0;
}

std::string describe(const compute::MachineLimits& limits) {
  std::string text = fmt::format("read {:.1f} GB/s", limits.read_bytes_per_s * 1e-9);
  const auto add = [&](std::string_view what, double ops, std::string_view unit) {
    if (ops > 0) text += fmt::format(", {} {:.0f} {}", what, ops * 1e-9, unit);
  };
  add("int8", limits.int8_ops_per_s, "GOP/s");
  add("bf16", limits.bf16_flops, "GFLOP/s");
  add("f32", limits.f32_flops, "GFLOP/s");
  return text;
}

void print_limits(const BenchOptions& options, ModelRuntime& runtime,
                  const compute::MachineLimits& limits) {
  fmt::print("model    {}\n", options.model.model.string());
  fmt::print("back end {}, {} threads in this process\n", runtime.backend().name(),
             runtime.threads().num_threads());
  fmt::print("limits   {} (measured now)\n\n", describe(limits));
  fmt::print("{:<14}{:>10}{:>10}{:>10}{:>14}{:>14}{:>9}{:>10}\n", "", "tokens/s", "slowest",
             "fastest", "GOP/token", "MB/token", "of peak", "of read");
}

std::string share_of(double value, double limit) {
  if (limit <= 0) return "-";
  return fmt::format("{:.0f}%", 100.0 * value / limit);
}

// Bytes and operations are what the model needs at the least; fractions are of the limits.
void print_line(const BenchOptions& options, const model::ModelConfig& config,
                const TokenCost& cost, const compute::MachineLimits& limits,
                const std::pair<const size_t, std::vector<BenchRun>>& line) {
  const auto& [streams, runs] = line;
  const BenchRun run = median_run(runs);
  const bool prefill = streams == 0;
  const auto tokens = static_cast<double>(run.num_tokens);
  const auto context =
      static_cast<double>(prefill ? options.num_prompt_tokens / 2
                                  : options.num_context_tokens + options.num_decode_steps / 2);
  const double ops = cost.prefill_ops + attention_ops(config, context);
  const double bytes = (cost.backbone_bytes * static_cast<double>(run.num_steps) +
                        cost.expert_bytes * static_cast<double>(run.num_experts_touched) +
                        cost.kv_bytes * context * tokens * (prefill ? 0.0 : 1.0)) /
                       tokens;
  const auto speed_of = [](const BenchRun& r) { return r.tokens_per_second(); };
  const auto [slowest, fastest] = std::ranges::minmax(runs, {}, speed_of);
  const double speed = speed_of(run);
  const std::string name = prefill ? fmt::format("prefill {}", options.num_prompt_tokens)
                                   : fmt::format("decode x{}", streams);
  const std::string of_peak = share_of(ops * speed, peak_ops(limits, options.model.weights));
  const std::string of_read = share_of(bytes * speed, limits.read_bytes_per_s);
  fmt::print("{:<14}{:>10.1f}{:>10.1f}{:>10.1f}{:>14.2f}{:>14.1f}{:>9}{:>10}\n", name, speed,
             speed_of(slowest), speed_of(fastest), ops * 1e-9, bytes * 1e-6, of_peak, of_read);
}

Status run(const BenchOptions& options, const ExpertsHooks& experts,
           const PhaseProgress& progress) {
  PREGATE_ASSIGN(const auto batches, parse_numbers("--batches", options.batches));
  const size_t max_batch = *std::ranges::max_element(batches);
  PREGATE_ASSIGN(const auto runtime, ModelRuntime::load(runtime_options(options, max_batch),
                                                        experts.connect, progress));
  const auto format = compute::kept_format(options.model.backend, options.model.weights);
  PREGATE_ASSIGN(const auto summary, model::summarize(runtime->checkpoint(), format));
  PREGATE_ASSIGN(const compute::MachineLimits limits,
                 compute::measure_limits(options.model.backend, runtime->threads()));
  PREGATE_ASSIGN(const Runs runs, measure(options, batches, *runtime));
  print_limits(options, *runtime, limits);
  const TokenCost cost = token_cost(runtime->config(), summary);
  for (const auto& line : runs) print_line(options, runtime->config(), cost, limits, line);
  return {};
}

}  // namespace

Status run_bench(const BenchOptions& options) {
  return run_with_experts("bench", options,
                          [&](const ExpertsHooks& experts, const PhaseProgress& progress) {
                            return run(options, experts, progress);
                          });
}

}  // namespace pregate::cli
