#include "cli/eval.h"

#include <memory>
#include <numbers>

#include <boost/json.hpp>

#include "engine/sampling/sampler.h"

namespace pregate::cli {
namespace {

constexpr const char* kEvalExamples =
    "Bits per byte is -log2 of the probability the model gives to a text, over the text's bytes:\n"
    "what compressing the text with the model would take.\n\n"
    "Examples:\n"
    "  pregate eval --model models/pregate-tiny --weights f32 heldout/*.txt\n"
    "  mpirun -n 3 pregate eval --model models/pregate-tiny heldout/*.txt\n\n";

struct Score {
  std::string name;
  size_t num_documents = 0;
  size_t num_bytes = 0;
  size_t num_tokens = 0;
  double bits = 0.0;

  double bits_per_byte() const { return bits / static_cast<double>(num_bytes); }
};

void print_header() {
  fmt::print("{:<20}{:>12}{:>12}{:>12}{:>12}{:>12}\n", "text", "documents", "bytes", "tokens",
             "bits/token", "bits/byte");
}

void print(const Score& score) {
  fmt::print("{:<20}{:>12}{:>12}{:>12}{:>12.4f}{:>12.4f}\n", score.name, score.num_documents,
             score.num_bytes, score.num_tokens, score.bits / static_cast<double>(score.num_tokens),
             score.bits_per_byte());
}

boost::json::object to_json(const Score& score) {
  return {{"documents", score.num_documents},
          {"bytes", score.num_bytes},
          {"tokens", score.num_tokens},
          {"bits", score.bits},
          {"bits_per_byte", score.bits_per_byte()}};
}

Result<Score> evaluate(engine::Engine& engine, const Text& text, Progress& progress) {
  Score score{.name = text.name,
              .num_documents = text.num_documents,
              .num_bytes = text.num_bytes,
              .num_tokens = text.num_tokens};
  const auto add_window = [&](const std::vector<TokenId>& window) {
    const auto add_bits = [&](size_t, size_t row, std::span<const float> logits) {
      score.bits -= engine::log_probability(logits, window[row + 1]) / std::numbers::ln2;
    };
    return compute_window(engine, window, engine::LogitRows::kAll, add_bits);
  };
  PREGATE_TRY(for_each_window(text, progress, add_window));
  return score;
}

Score sum(const std::vector<Score>& scores) {
  Score all{.name = "all"};
  for (const Score& score : scores) {
    all.num_documents += score.num_documents;
    all.num_bytes += score.num_bytes;
    all.num_tokens += score.num_tokens;
    all.bits += score.bits;
  }
  return all;
}

Status eval(const EvalOptions& options, const ExpertsHooks& experts, const PhaseProgress& loading) {
  PREGATE_ASSIGN(const auto model, load_text_model(options, options.text, experts, loading));
  Progress progress(text_progress("evaluating"), system_clock());
  std::vector<Score> scores;
  if (!options.json) print_header();
  for (const auto& file : options.text.files) {
    PREGATE_ASSIGN(const Text text, model.read(file, options.text));
    PREGATE_ASSIGN(scores.emplace_back(), evaluate(model.runtime->engine(), text, progress));
    if (!options.json) print(scores.back());
  }
  if (!options.json) {
    if (scores.size() > 1) print(sum(scores));
    return {};
  }
  boost::json::object texts;
  for (const Score& score : scores) texts[score.name] = to_json(score);
  fmt::print("{}\n", boost::json::serialize(
                         boost::json::object{{"model", options.model.model.string()},
                                             {"window_tokens", options.text.window_tokens},
                                             {"texts", texts},
                                             {"all", to_json(sum(scores))}}));
  return {};
}

}  // namespace

Command add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  Command command = make_command(
      app, "eval", "Measure how well a model predicts texts, in bits per byte of each text",
      std::string(kEvalExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_model_flags(flags, options->model, command);
  add_text_flags(flags, options->text);
  flags.toggle("--json", options->json, "Print one JSON object instead of a table");
  add_experts_flags(flags, *options);
  command.run = [options]() -> Status {
    PREGATE_TRY(check(options->cluster));
    const auto run = [&](const ExpertsHooks& experts, const PhaseProgress& progress) {
      return eval(*options, experts, progress);
    };
    return run_with_experts("eval", *options, run);
  };
  return command;
}

}  // namespace pregate::cli
