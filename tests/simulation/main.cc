// Runs scenarios over many seeds, or one seed again; see --help.
#include <algorithm>
#include <cstdio>

#include <CLI/CLI.hpp>

#include "base/log.h"
#include "tests/simulation/run.h"

namespace {

using namespace pregate;
using namespace pregate::simulation;

struct Options {
  std::vector<std::string> scenarios;
  uint64_t first_seed = 1;
  uint64_t num_seeds = 100;
  uint64_t seed = 0;
  bool trace = false;
};

double milliseconds(Duration duration) { return to_seconds(duration) * 1e3; }

/// True if every seed passed.
bool run_all(Model& model, const Scenario& scenario, const Options& options) {
  const uint64_t first = options.seed > 0 ? options.seed : options.first_seed;
  const uint64_t count = options.seed > 0 ? 1 : options.num_seeds;
  std::vector<Duration> stalls;
  size_t num_failed = 0, num_resent = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const Outcome outcome = run_scenario(model, scenario, seed);
    stalls.push_back(outcome.longest_step);
    num_resent += outcome.num_resent;
    if (outcome.problem.empty()) continue;
    ++num_failed;
    fmt::print("{} seed {}: {}\n  again: simulation --scenario {} --seed {} --trace\n",
               scenario.name, seed, outcome.problem, scenario.name, seed);
  }
  std::ranges::sort(stalls);
  fmt::print(
      "{}: {} of {} seeds passed; longest step: median {:.0f} ms, largest {:.0f} ms; {} "
      "token batches sent again\n",
      scenario.name, count - num_failed, count, milliseconds(stalls[stalls.size() / 2]),
      milliseconds(stalls.back()), num_resent);
  return num_failed == 0;
}

int run(const Options& options) {
  const std::filesystem::path folder =
      std::filesystem::path(PREGATE_SOURCE_DIR) / "tests/simulation/scenarios";
  std::vector<std::filesystem::path> files;
  for (const std::string& name : options.scenarios) files.push_back(folder / (name + ".toml"));
  if (files.empty()) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      files.push_back(entry.path());
    }
    std::ranges::sort(files);
  }
  spdlog::set_level(options.trace ? spdlog::level::debug : spdlog::level::off);
  Model model;
  bool passed = true;
  for (const auto& file : files) {
    const auto scenario = read_scenario(file);
    if (!scenario) {
      fmt::print(stderr, "simulation: {}\n", scenario.error().message);
      return 2;
    }
    passed &= run_all(model, *scenario, options);
    std::fflush(stdout);
  }
  return passed ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Simulated clusters: coordinator, engine and workers in one process, time and\n"
      "network from a seed, scenarios from tests/simulation/scenarios");
  app.add_option("--scenario", options.scenarios, "By name; default: all");
  app.add_option("--seeds", options.num_seeds, "How many of each (default 100)");
  app.add_option("--first", options.first_seed, "The first seed (default 1)");
  app.add_option("--seed", options.seed, "Only this one");
  app.add_flag("--trace", options.trace, "Show the log");
  CLI11_PARSE(app, argc, argv);
  return run(options);
}
