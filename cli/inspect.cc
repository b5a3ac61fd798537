#include "cli/inspect.h"

#include <algorithm>
#include <memory>

#include "cli/flags.h"
#include "cli/quantity.h"
#include "cli/weight_name.h"

namespace pregate::cli {
namespace {

using compute::WeightFormat;
using model::ModelConfig;
using model::ModelSummary;

constexpr const char* kInspectExamples =
    "Examples:\n"
    "  pregate inspect models/olmoe\n"
    "  pregate inspect models/olmoe -n 4 --weights q8     memory of each of four workers";

std::string describe_count(size_t count) {
  if (count >= 1'000'000'000) return fmt::format("{:.2f} G", static_cast<double>(count) * 1e-9);
  if (count >= 1'000'000) return fmt::format("{:.2f} M", static_cast<double>(count) * 1e-6);
  if (count >= 10'000) return fmt::format("{:.1f} k", static_cast<double>(count) * 1e-3);
  return std::to_string(count);
}

std::string describe_shape(const ModelConfig& config, const ModelSummary& summary) {
  const auto num_moe = std::count_if(config.layers.begin(), config.layers.end(),
                                     [](const auto& layer) { return layer.is_moe; });
  std::string page;
  page += fmt::format("family      {}\n", config.architecture);
  page += fmt::format("layers      {}, {} of them with experts\n", config.num_layers(), num_moe);
  page += fmt::format("experts     {} per layer, {} per token{}\n", config.num_experts,
                      config.top_k, config.shared_intermediate_size > 0 ? ", one shared" : "");
  page += fmt::format("attention   {} heads of {}, {} for keys and values\n", config.num_heads,
                      config.head_dim, config.num_kv_heads);
  page += fmt::format("context     {} tokens, vocabulary of {}\n", config.max_position,
                      config.vocab_size);
  page += fmt::format("parameters  {}, {} of them active per token\n",
                      describe_count(summary.total_parameters),
                      describe_count(summary.active_parameters));
  return page;
}

std::string describe_parts(const ModelSummary& summary) {
  constexpr auto kRow = "{:<14}{:>12}{:>14}{:>14}\n";
  std::string page = fmt::format(kRow, "part", "parameters", "on disk", "in memory");
  size_t disk_bytes = 0, loaded_bytes = 0;
  for (const model::PartSize& part : summary.parts) {
    page += fmt::format(kRow, model::to_string(part.part), describe_count(part.parameters),
                        describe_bytes(part.checkpoint_bytes), describe_bytes(part.loaded_bytes));
    disk_bytes += part.checkpoint_bytes;
    loaded_bytes += part.loaded_bytes;
  }
  page += fmt::format(kRow, "all", describe_count(summary.total_parameters),
                      describe_bytes(disk_bytes), describe_bytes(loaded_bytes));
  return page;
}

std::string describe_memory(const ModelSummary& summary, size_t num_workers) {
  const std::string cache =
      fmt::format("and {} of KV cache per token", describe_bytes(summary.kv_bytes_per_token));
  const size_t all_experts = summary.num_routed_experts * summary.expert_loaded_bytes;
  if (num_workers == 0) {
    return fmt::format("one process   {} {}\n",
                       describe_bytes(summary.backbone_loaded_bytes + all_experts), cache);
  }
  std::string page =
      fmt::format("coordinator   {} {}\n", describe_bytes(summary.backbone_loaded_bytes), cache);
  const auto shares = model::experts_per_worker(summary.num_routed_experts, num_workers);
  for (size_t i = 0; i < shares.size(); ++i) {
    page += fmt::format("worker {:<7}{} for {} of {} experts\n", i + 1,
                        describe_bytes(shares[i] * summary.expert_loaded_bytes), shares[i],
                        summary.num_routed_experts);
  }
  return page;
}

Status inspect(const InspectOptions& options) {
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.model));
  PREGATE_ASSIGN(const auto summary, model::summarize(*checkpoint, options.weights));
  fmt::print("{}", describe_model(checkpoint->config(), summary, options));
  return {};
}

}  // namespace

std::string describe_model(const ModelConfig& config, const ModelSummary& summary,
                           const InspectOptions& options) {
  return fmt::format("{}\n{}\n{}", describe_shape(config, summary), describe_parts(summary),
                     describe_memory(summary, options.num_workers));
}

Command add_inspect(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  Command command =
      make_command(app, "inspect", "Show what a checkpoint is and how much memory it will take",
                   kInspectExamples);
  Flags flags(*command.app);
  flags.positional("DIR", options->model, "Checkpoint folder");
  flags.count("-n,--workers", options->num_workers, {.max = 100'000},
              "Show the memory of so many workers; 0: of one process that does everything");
  flags.choice<WeightFormat>("--weights", options->weights, kWeightNames,
                             "How weights would be kept in memory");
  command.run = [options] { return inspect(*options); };
  return command;
}

}  // namespace pregate::cli
