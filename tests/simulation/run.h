// One run of a scenario: coordinator, engine and workers on a simulated clock and network.
#pragma once

#include "tests/simulation/model.h"
#include "tests/simulation/scenario.h"

namespace pregate::simulation {

struct Outcome {
  std::string problem;  ///< Empty: all was as it must be.
  Duration took{};      ///< Simulated, from the first step to the last.
  Duration longest_step{};
  size_t num_resent = 0;  ///< Token batches sent again.
};

/// The same seed gives the same run.
Outcome run_scenario(Model& model, const Scenario& scenario, uint64_t seed);

}  // namespace pregate::simulation
