#include "cli/activations.h"

#include <map>
#include <memory>

#include "base/log.h"
#include "model/refactored/activations.h"

namespace pregate::cli {
namespace {

constexpr const char* kActivationsExamples =
    "Writes the mean magnitude of each MLP channel, layer by layer and text by text: what\n"
    "tools/refactor makes experts from.\n\n"
    "Example:\n"
    "  pregate activations --model models/pregate-tiny-dense --out means.safetensors "
    "texts/*.txt\n\n";

Result<std::vector<float>> measure(TextModel& model, const Text& text,
                                   model::ActivationStatistics& statistics, Progress& progress) {
  engine::Engine& engine = model.runtime->engine();
  engine.set_mlp_observer(
      [&](LayerIdx layer, compute::Matrix<const float> rows) { statistics.add(layer, rows); });
  const Status status = for_each_window(text, progress, [&](const auto& window) {
    return compute_window(engine, window, engine::LogitRows::kNone, {});
  });
  engine.set_mlp_observer({});
  PREGATE_TRY(status);
  return statistics.take_means();
}

Status activations(const ActivationsOptions& options, const ExpertsHooks& experts,
                   const PhaseProgress& loading) {
  PREGATE_ASSIGN(auto model, load_text_model(options, options.text, experts, loading));
  PREGATE_ASSIGN(auto statistics, model::ActivationStatistics::create(model.runtime->checkpoint(),
                                                                      model.runtime->backend()));
  Progress progress(text_progress("measuring"), system_clock());
  std::map<std::string, std::vector<float>> means;
  for (const auto& file : options.text.files) {
    PREGATE_ASSIGN(const Text text, model.read(file, options.text));
    PREGATE_ASSIGN(means[text.name], measure(model, text, statistics, progress));
    spdlog::info("{}: {} tokens", text.name, text.num_tokens);
  }
  return model::write_activations(options.out, statistics.num_layers(), statistics.num_channels(),
                                  means);
}

}  // namespace

Command add_activations(CLI::App& app) {
  auto options = std::make_shared<ActivationsOptions>();
  Command command =
      make_command(app, "activations", "Measure how much texts use each channel of a dense model",
                   std::string(kActivationsExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_model_flags(flags, options->model, command);
  add_text_flags(flags, options->text);
  command.needed.push_back(flags.path("--out", options->out, "File for the means"));
  add_experts_flags(flags, *options);
  command.run = [options]() -> Status {
    PREGATE_TRY(check(options->cluster));
    const auto run = [&](const ExpertsHooks& experts, const PhaseProgress& progress) {
      return activations(*options, experts, progress);
    };
    return run_with_experts("activations", *options, run);
  };
  return command;
}

}  // namespace pregate::cli
