#include "cli/trace.h"

#include <algorithm>
#include <functional>
#include <memory>

#include "base/log.h"
#include "router/lookahead/moe_layers.h"
#include "router/trace_statistics.h"

namespace pregate::cli {
namespace {

using router::RoutingTrace;

constexpr const char* kTraceExamples =
    "Writes OUT/NAME.safetensors for each text; router/trace.h describes the format.\n\n"
    "Example:\n"
    "  pregate trace --model models/pregate-tiny --out bench/traces heldout/*.txt\n\n";
constexpr const char* kSummaryExamples =
    "Example:\n"
    "  pregate trace-summary bench/traces/*.safetensors";

Result<RoutingTrace> record(TextModel& model, const Text& text, const std::string& model_name,
                            Progress& progress) {
  RouteRecording recording(model.runtime->engine());
  PREGATE_TRY(for_each_window(text, progress,
                              [&](const auto& window) { return recording.compute(window); }));
  RoutingTrace trace = recording.take();
  trace.model = model_name;
  trace.text = text.name;
  return trace;
}

Status trace(const TraceOptions& options, const ExpertsHooks& experts,
             const PhaseProgress& loading) {
  PREGATE_ASSIGN(auto model, load_text_model(options, options.text, experts, loading));
  Progress progress(text_progress("tracing"), system_clock());
  const std::string name = std::filesystem::weakly_canonical(options.model.model).filename();
  std::error_code failed;
  std::filesystem::create_directories(options.out, failed);
  if (failed) {
    return fail(ErrorCode::kInvalidArgument, "--out {}: {}", options.out.string(),
                failed.message());
  }
  std::vector<RoutingTrace> traces;
  for (const auto& file : options.text.files) {
    PREGATE_ASSIGN(const Text text, model.read(file, options.text));
    PREGATE_ASSIGN(traces.emplace_back(), record(model, text, name, progress));
    const auto path = options.out / (text.name + ".safetensors");
    PREGATE_TRY(router::write_trace(path, traces.back()));
    spdlog::info("{}: {} tokens", path.string(), traces.back().num_tokens());
  }
  fmt::print("{}", describe_traces(traces));
  return {};
}

Status summarize(const std::vector<std::filesystem::path>& files) {
  PREGATE_ASSIGN(const auto traces, read_traces(files));
  fmt::print("{}", describe_traces(traces));
  return {};
}

std::string row(const std::string& name, size_t num_columns,
                const std::function<std::string(size_t)>& cell) {
  std::string line = fmt::format("{:<20}", name);
  for (size_t i = 0; i < num_columns; ++i) line += fmt::format("{:>9}", cell(i));
  return line + "\n";
}

std::string describe_layers(std::span<const RoutingTrace> traces, const std::string& title,
                            double (*measure)(const RoutingTrace&, size_t layer)) {
  const size_t num_layers = traces.front().num_layers();
  std::string page = fmt::format("\n{}\n", title);
  page +=
      row("layer", num_layers, [&](size_t i) { return std::to_string(traces.front().layers[i]); });
  for (const RoutingTrace& trace : traces) {
    page += row(trace.text, num_layers,
                [&](size_t i) { return fmt::format("{:.3f}", measure(trace, i)); });
  }
  return page;
}

/// Of all texts' tokens together, so each text counts by its length.
std::string describe_shares(std::span<const RoutingTrace> traces) {
  const RoutingTrace& first = traces.front();
  std::vector<uint64_t> counts(first.num_layers() * first.num_experts);
  uint64_t num_tokens = 0;
  for (const RoutingTrace& trace : traces) {
    std::ranges::transform(router::tokens_per_expert(trace), counts, counts.begin(), std::plus());
    num_tokens += trace.num_tokens();
  }
  std::string page = fmt::format(
      "\nTokens that each expert got, in % (even: {:.1f})\n",
      100.0 * static_cast<double>(first.top_k) / static_cast<double>(first.num_experts));
  page +=
      row("layer", first.num_layers(), [&](size_t i) { return std::to_string(first.layers[i]); });
  for (size_t expert = 0; expert < first.num_experts; ++expert) {
    page += row(fmt::format("expert {}", expert), first.num_layers(), [&](size_t layer) {
      const uint64_t count = counts[layer * first.num_experts + expert];
      return fmt::format("{:.1f}",
                         100.0 * static_cast<double>(count) / static_cast<double>(num_tokens));
    });
  }
  return page;
}

double divergence(const RoutingTrace& a, const RoutingTrace& b) {
  double sum = 0.0;
  for (size_t layer = 0; layer < a.num_layers(); ++layer) {
    sum += router::jensen_shannon_divergence(router::expert_shares(a, layer),
                                             router::expert_shares(b, layer));
  }
  return sum / static_cast<double>(a.num_layers());
}

std::string describe_divergence(std::span<const RoutingTrace> traces) {
  std::string page =
      "\nJensen-Shannon divergence of two texts' expert shares, mean over the layers, in bits\n";
  page += row("", traces.size(), [&](size_t i) { return traces[i].text.substr(0, 8); });
  for (const RoutingTrace& trace : traces) {
    page += row(trace.text, traces.size(),
                [&](size_t i) { return fmt::format("{:.3f}", divergence(trace, traces[i])); });
  }
  return page;
}

std::vector<uint32_t> moe_layers(const model::ModelConfig& config) {
  std::vector<uint32_t> layers;
  for (const LayerIdx layer : router::MoeLayers::of(config).layers) layers.push_back(layer.value);
  return layers;
}

}  // namespace

RouteRecording::RouteRecording(engine::Engine& engine)
    : engine_(engine),
      recorder_(moe_layers(engine.config()), engine.config().num_experts, engine.config().top_k) {
  engine_.set_routing_observer([this](LayerIdx layer, const router::Decisions& decisions) {
    recorder_.record(layer, decisions);
  });
}

RouteRecording::~RouteRecording() { engine_.set_routing_observer({}); }

Status RouteRecording::compute(const std::vector<TokenId>& window) {
  recorder_.begin_window(std::span(window).first(window.size() - 1));
  return compute_window(engine_, window, engine::LogitRows::kNone, {});
}

Result<std::vector<RoutingTrace>> read_traces(const std::vector<std::filesystem::path>& files) {
  std::vector<RoutingTrace> traces;
  for (const auto& file : files) {
    PREGATE_ASSIGN(traces.emplace_back(), router::read_trace(file));
    const RoutingTrace& first = traces.front();
    const RoutingTrace& last = traces.back();
    if (last.num_experts != first.num_experts || last.layers != first.layers) {
      return fail(ErrorCode::kInvalidArgument, "{}: not of the same model as {}", file.string(),
                  files.front().string());
    }
  }
  return traces;
}

std::string describe_traces(std::span<const RoutingTrace> traces) {
  const RoutingTrace& first = traces.front();
  size_t num_tokens = 0;
  for (const RoutingTrace& trace : traces) num_tokens += trace.num_tokens();
  std::string page =
      fmt::format("{} texts, {} tokens; {} layers of {} experts, {} per token\n", traces.size(),
                  num_tokens, first.num_layers(), first.num_experts, first.top_k);
  page += describe_layers(traces, "Load of the busiest expert, as a multiple of the mean",
                          [](const RoutingTrace& trace, size_t layer) {
                            return router::imbalance(router::expert_shares(trace, layer));
                          });
  page += describe_layers(
      traces,
      fmt::format(
          "Experts that the token before used too, as a part (independent and even: {:.3f})",
          static_cast<double>(first.top_k) / static_cast<double>(first.num_experts)),
      router::repeat_rate);
  if (traces.size() > 1) page += describe_divergence(traces);
  return page + describe_shares(traces);
}

Command add_trace(CLI::App& app) {
  auto options = std::make_shared<TraceOptions>();
  Command command =
      make_command(app, "trace", "Record which experts a model uses for each token of texts",
                   std::string(kTraceExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_model_flags(flags, options->model, command);
  add_text_flags(flags, options->text);
  command.needed.push_back(flags.path("--out", options->out, "Folder for the traces"));
  add_experts_flags(flags, *options);
  command.run = [options]() -> Status {
    PREGATE_TRY(check(options->cluster));
    const auto run = [&](const ExpertsHooks& experts, const PhaseProgress& progress) {
      return trace(*options, experts, progress);
    };
    return run_with_experts("trace", *options, run);
  };
  return command;
}

Command add_trace_summary(CLI::App& app) {
  auto files = std::make_shared<std::vector<std::filesystem::path>>();
  Command command = make_command(app, "trace-summary",
                                 "Show balance and locality of recorded routing", kSummaryExamples);
  Flags flags(*command.app);
  flags.positionals("FILE", *files, "Traces, as `pregate trace` writes them");
  command.run = [files] { return summarize(*files); };
  return command;
}

}  // namespace pregate::cli
