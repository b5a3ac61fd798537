#include <algorithm>

#include "cli/bench.h"
#include "cli/lookahead/accuracy.h"
#include "cli/lookahead/windows.h"

namespace pregate::cli {
namespace {

/// All windows, `batch` at once; a rest that is fewer is left out.
Status run_batch(engine::Engine& engine, const Windows& windows, size_t batch,
                 const BenchLookaheadOptions& options, LookaheadAccuracy& accuracy) {
  Progress progress(text_progress(fmt::format("{} at once:", batch)), system_clock());
  const size_t num_tokens = options.text.window_tokens;
  const size_t num_context = std::min(options.num_context_tokens, num_tokens);
  const std::string prefill = fmt::format("prefill {} x {}", batch, num_context);
  const std::string decode = fmt::format("decode {} x 1", batch);
  for (size_t w = 0; w + batch <= windows.size(); w += batch) {
    const auto now = std::span(windows).subspan(w, batch);
    accuracy.begin_part(prefill);
    PREGATE_TRY(compute_step(engine, now, 0, num_context));
    accuracy.begin_part(decode);
    for (size_t position = num_context; position < num_tokens; ++position) {
      PREGATE_TRY(compute_step(engine, now, position, 1));
    }
    progress.update("texts", (w + batch) * num_tokens, windows.size() * num_tokens);
  }
  fmt::print("\n{}\n{}", accuracy.describe(prefill), accuracy.describe(decode));
  return {};
}

}  // namespace

Status print_accuracy(const BenchLookaheadOptions& options, const ExpertsHooks& experts,
                      const PhaseProgress& loading) {
  PREGATE_ASSIGN(const auto batches, parse_numbers("--batches", options.batches));
  const size_t largest = *std::ranges::max_element(batches);
  std::unique_ptr<LookaheadAccuracy> accuracy;
  const auto make =
      [&](const router::LookaheadParts& parts) -> Result<std::unique_ptr<router::Lookahead>> {
    PREGATE_ASSIGN(accuracy,
                   LookaheadAccuracy::create(parts, options.depth, options.replay.string()));
    return accuracy->listener();
  };
  PREGATE_ASSIGN(
      const auto model,
      load_text_model(options, options.text, {.num_sequences = largest, .make_lookahead = make},
                      experts, loading));
  PREGATE_ASSIGN(const Windows windows, read_windows(model, options));
  PREGATE_TRY(check_room(*model.runtime, windows, largest));
  const model::ModelConfig& config = model.runtime->config();
  fmt::print("{}: {} experts per layer, {} per token; {} windows of {} tokens\n",
             options.model.model.string(), config.num_experts, config.top_k, windows.size(),
             options.text.window_tokens);
  for (const size_t batch : batches) {
    PREGATE_TRY(run_batch(model.runtime->engine(), windows, batch, options, *accuracy));
  }
  return {};
}

}  // namespace pregate::cli
