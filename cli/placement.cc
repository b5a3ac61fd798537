#include "cli/placement.h"

#include <fstream>
#include <memory>
#include <numeric>

#include "base/log.h"
#include "cli/flags.h"
#include "cli/trace.h"
#include "coordinator/placement/affinity.h"
#include "coordinator/placement/placement_file.h"

namespace pregate::cli {
namespace {

using coordinator::Placement;

constexpr const char* kPlacementExamples =
    "Spreads the experts of each layer evenly by the tokens they got, and brings those together\n"
    "that serve the same tokens: a token is sent once to each worker that has any of its experts.\n"
    "Workers are numbered from 1 and equally fast.\n\n"
    "Example:\n"
    "  pregate placement --workers 2 --out placement.json bench/traces/*.safetensors\n"
    "  pregate serve --model models/pregate-tiny --workers 2 --placement placement.json";

struct PlacementOptions {
  std::vector<std::filesystem::path> traces;
  size_t num_workers = 0;
  double tolerance = 0.1;
  std::filesystem::path out;
};

coordinator::PlacementProblem problem_of(const PlacementOptions& options,
                                         const coordinator::TracedUse& use) {
  coordinator::PlacementProblem problem{.shape = use.shape, .loads = use.loads};
  const size_t all = use.shape.layers.size() * use.shape.num_experts;
  for (uint32_t id = 1; id <= options.num_workers; ++id) {
    problem.workers.push_back({WorkerId(id), 1, all});
  }
  return problem;
}

void print_row(const std::string& name, const Placement& placement,
               const coordinator::PlacementProblem& problem,
               std::span<const router::RoutingTrace> traces) {
  const auto layers = coordinator::workers_per_token(placement, traces);
  const double sum = std::accumulate(layers.begin(), layers.end(), 0.0);
  fmt::print("{:<12}{:>10.3f}{:>8.3f}", name, coordinator::imbalance(placement, problem),
             sum / static_cast<double>(layers.size()));
  for (const double workers : layers) fmt::print("{:>8.3f}", workers);
  fmt::print("\n");
}

void print_table(const coordinator::PlacementProblem& problem, const Placement& balanced,
                 const Placement& together, std::span<const router::RoutingTrace> traces) {
  fmt::print("{:<12}{:>10}  workers per token: mean, each layer\n", "", "imbalance");
  fmt::print("{:<12}{:>10}{:>8}", "experts", "", "mean");
  for (const LayerIdx layer : problem.shape.layers) fmt::print("{:>8}", fmt::format("{}", layer));
  fmt::print("\n");
  std::vector<WorkerId> ids;
  for (const auto& worker : problem.workers) ids.push_back(worker.id);
  print_row("neighbours", coordinator::even_placement(1, problem.shape, ids), problem, traces);
  print_row("by load", balanced, problem, traces);
  print_row("together", together, problem, traces);
}

Status write(const PlacementOptions& options, const Placement& placement,
             const coordinator::PlacementShape& shape) {
  std::map<WorkerId, std::string> names;
  for (uint32_t id = 1; id <= options.num_workers; ++id) {
    names.emplace(WorkerId(id), std::to_string(id));
  }
  std::ofstream file(options.out);
  file << boost::json::serialize(coordinator::write_placement(placement, shape, names)) << "\n";
  if (file.flush()) return {};
  return fail(ErrorCode::kInvalidArgument, "--out {}: cannot write", options.out.string());
}

Status run(const PlacementOptions& options) {
  PREGATE_ASSIGN(const auto traces, read_traces(options.traces));
  const coordinator::TracedUse use = coordinator::traced_use(traces);
  const coordinator::PlacementProblem problem = problem_of(options, use);
  if (options.num_workers > use.shape.num_experts) {
    return fail(ErrorCode::kInvalidArgument, "--workers {}: a layer has {} experts",
                options.num_workers, use.shape.num_experts);
  }
  const Placement balanced = coordinator::plan_placement(1, problem).placement;
  const Placement together = coordinator::with_affinity(problem, balanced, use, options.tolerance);
  print_table(problem, balanced, together, traces);
  return options.out.empty() ? Status{} : write(options, together, use.shape);
}

}  // namespace

Command add_placement(CLI::App& app) {
  auto options = std::make_shared<PlacementOptions>();
  Command command =
      make_command(app, "placement", "Plan which worker holds which expert, from recorded routing",
                   kPlacementExamples);
  Flags flags(*command.app);
  flags.positionals("FILE", options->traces, "Traces, as `pregate trace` writes them");
  command.needed.push_back(flags.count("--workers", options->num_workers, {.min = 1, .max = 1000},
                                       "Workers to spread the experts over"));
  flags.share("--tolerance", options->tolerance,
              "By so much of its share of the tokens a worker may get more, to have experts "
              "together");
  flags.path("--out", options->out, "The file to write, for --placement");
  command.run = [options] { return run(*options); };
  return command;
}

}  // namespace pregate::cli
