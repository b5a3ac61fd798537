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

/// Balance and locality of each trace by layer, and how far their routing differs.
std::string describe_traces(std::span<const router::RoutingTrace> traces);

Command add_trace(CLI::App& app);
/// `pregate trace-summary`: the same page for traces recorded earlier.
Command add_trace_summary(CLI::App& app);

}  // namespace pregate::cli
