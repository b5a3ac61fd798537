#include "cli/bench.h"

#include <charconv>
#include <memory>
#include <sstream>

namespace pregate::cli {
namespace {

constexpr const char* kBenchExamples =
    "Examples:\n"
    "  pregate bench --model models/olmoe --weights q8 --threads 2\n"
    "  mpirun -n 3 pregate bench --model models/olmoe --weights q8 --threads 1\n\n";

}  // namespace

Result<std::vector<size_t>> parse_numbers(const std::string& flag, const std::string& text) {
  std::vector<size_t> batches;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    size_t batch = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), batch);
    if (error != std::errc{} || end != part.data() + part.size() || batch == 0) {
      return fail(ErrorCode::kInvalidArgument,
                  "{} {}: expected numbers above 0 with commas between, such as 1,4,8", flag, text);
    }
    batches.push_back(batch);
  }
  return batches;
}

Command add_bench(CLI::App& app, std::function<Status(const BenchOptions&)> run) {
  auto options = std::make_shared<BenchOptions>();
  Command command = make_command(
      app, "bench",
      "Measure prefill and decode, beside the limits of the machine measured in the same run. "
      "Under mpirun the experts are on the other ranks",
      std::string(kBenchExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_model_flags(flags, options->model, command);
  flags.group("Load");
  flags.count("--prompt-tokens", options->num_prompt_tokens, {.min = 1}, "Length of the prompt");
  flags.count("--chunk-tokens", options->num_chunk_tokens, {.min = 1},
              "Prompt tokens computed in one step");
  flags.count("--context-tokens", options->num_context_tokens, {.min = 1},
              "Tokens of each sequence before decode is timed");
  flags.count("--decode-steps", options->num_decode_steps, {.min = 1},
              "Tokens that each sequence decodes");
  flags.text("--batches", options->batches, "Sequences decoded at once, one run for each number");
  flags.share("--top-p", options->top_p,
              "Draw tokens at temperature 1 from the most likely that have this share of the "
              "probability; 0: take the most likely");
  flags.count("--repeats", options->num_repeats, {.min = 1, .max = 1000},
              "Runs of each kind, in turn; the median is shown");
  flags.bytes("--kv-cache-bytes", options->kv_cache_bytes, "Room for keys and values");
  add_experts_flags(flags, *options);
  command.run = [options, run = std::move(run)]() -> Status {
    PREGATE_TRY(check(options->cluster));
    PREGATE_TRY(parse_numbers("--batches", options->batches));
    return run(*options);
  };
  return command;
}

}  // namespace pregate::cli
