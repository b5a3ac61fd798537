#include "cli/lookahead/bench_lookahead.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "cli/bench.h"
#include "cli/lookahead/tables.h"

namespace pregate::cli {
namespace {

constexpr const char* kBenchLookaheadExamples =
    "Texts are computed in windows: their first tokens in one step, the others one by one, as if\n"
    "they had been sampled, several windows at once. Of a trace, the text is taken. A guess is an\n"
    "expert of a layer in a step; precision is the share of the guesses that were used, recall "
    "the\n"
    "share of what was used that had been guessed. By chance: the precision of guessing any. The\n"
    "first layer is guessed by the token before, or not at all. All tables are printed, unless a\n"
    "flag names one.\n\n"
    "Examples:\n"
    "  pregate bench lookahead --model models/pregate-tiny bench/traces/*.safetensors\n"
    "  pregate bench lookahead --model models/olmoe --weights q8 --lookahead-depth 2 README.md\n\n";

struct Table {
  bool BenchLookaheadOptions::*wanted;
  Status (*print)(const BenchLookaheadOptions& options, const ExpertsHooks& experts,
                  const PhaseProgress& loading);
};
constexpr Table kTables[] = {{&BenchLookaheadOptions::accuracy, print_accuracy},
                             {&BenchLookaheadOptions::hit_ratio, print_hit_ratio},
                             {&BenchLookaheadOptions::speed, print_speed},
                             {&BenchLookaheadOptions::batching, print_batching}};

/// Those that were asked for; without a flag, all of them.
Status run(const BenchLookaheadOptions& options, const ExpertsHooks& experts,
           const PhaseProgress& loading) {
  std::setvbuf(stdout, nullptr, _IOLBF,
               0);  // Tables take minutes: each line as soon as it is there.
  const auto wanted = [&](const Table& table) { return options.*table.wanted; };
  const bool all = std::ranges::none_of(kTables, wanted);
  for (const Table& table : kTables) {
    if (all || wanted(table)) PREGATE_TRY(table.print(options, experts, loading));
  }
  return {};
}

}  // namespace

Result<std::vector<size_t>> parse_budgets(const BenchLookaheadOptions& options) {
  PREGATE_ASSIGN(auto budgets, parse_numbers("--budgets", options.budgets));
  for (const size_t percent : budgets) {
    if (percent <= 100) continue;
    return fail(ErrorCode::kInvalidArgument, "--budgets {}: expected at most 100 percent",
                options.budgets);
  }
  return budgets;
}

Command add_bench_lookahead(CLI::App& bench) {
  auto options = std::make_shared<BenchLookaheadOptions>();
  Command command =
      make_command(bench, "lookahead",
                   "Measure how often look-ahead is right about a model and texts, and "
                   "what it is worth",
                   std::string(kBenchLookaheadExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_model_flags(flags, options->model, command);
  add_text_flags(flags, options->text);
  flags.group("Look-ahead");
  flags.toggle("--accuracy", options->accuracy,
               "Print how often each source is right, layer by layer");
  flags.toggle(
      "--hit-ratio", options->hit_ratio,
      "Print how often an expert is in memory when it is needed, for each eviction policy");
  flags.toggle("--speed", options->speed,
               "Print tokens per second with a part of the experts in memory: loaded on demand, "
               "guessed, known");
  flags.toggle("--batching", options->batching,
               "Print what each batch policy makes of the same requests");
  flags.text("--batches", options->batches, "Windows computed at once, one run for each number");
  flags.count("--context-tokens", options->num_context_tokens, {.min = 1},
              "Tokens of a window that are computed in one step, before the others follow");
  flags.count("--windows", options->num_windows, {}, "Windows in each run; 0: all");
  add_lookahead_depth_flag(flags, options->depth);
  flags.text("--budgets", options->budgets,
             "Of --hit-ratio and --speed: the experts in memory, in percent of all");
  flags.count("--repeats", options->num_repeats, {.min = 1, .max = 1000},
              "Runs of each kind of --speed, in turn; the median is shown");
  flags.count("--requests", options->num_requests, {.min = 1, .max = 1000000},
              "Requests that are made up for --hit-ratio and --batching");
  flags.count("--seed", options->seed, {}, "Of the requests that are made up");
  flags.path("--replay", options->replay, "A trace of `pregate trace`, as one more source");
  add_experts_flags(flags, *options);
  command.run = [options]() -> Status {
    PREGATE_TRY(check(options->cluster));
    PREGATE_TRY(parse_numbers("--batches", options->batches));
    PREGATE_TRY(parse_budgets(*options));
    return run_with_experts("bench lookahead", *options,
                            [&](const ExpertsHooks& experts, const PhaseProgress& progress) {
                              return run(*options, experts, progress);
                            });
  };
  return command;
}

}  // namespace pregate::cli
