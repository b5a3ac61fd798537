// `pregate trace`: which experts a model uses for texts, recorded and summed up.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "cli/run_with_experts.h"
#include "cli/text_windows.h"
#include "router/trace.h"

namespace pregate::cli {

struct TraceOptions : ExpertsOptions {
  TextOptions text;
  std::filesystem::path out;
};

/// Computes windows one by one, and records where their rows go; one at a time for an engine, which
/// outlives it.
class RouteRecording {
 public:
  explicit RouteRecording(engine::Engine& engine);
  ~RouteRecording();
  RouteRecording(const RouteRecording&) = delete;
  RouteRecording& operator=(const RouteRecording&) = delete;

  Status compute(const std::vector<TokenId>& window);
  router::RoutingTrace take() { return std::move(recorder_.trace()); }

 private:
  engine::Engine& engine_;
  router::TraceRecorder recorder_;
};

/// Errors name the file that cannot be read, or has other layers or experts than the first.
Result<std::vector<router::RoutingTrace>> read_traces(
    const std::vector<std::filesystem::path>& files);

/// Balance and locality of each trace by layer, and how far their routing differs.
std::string describe_traces(std::span<const router::RoutingTrace> traces);

Command add_trace(CLI::App& app);
/// `pregate trace-summary`: the same page for traces recorded earlier.
Command add_trace_summary(CLI::App& app);

}  // namespace pregate::cli
