// What happens in a simulated run, read from a TOML file of tests/simulation/scenarios.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace pregate::simulation {

/// A range from which a run draws.
struct Span {
  Duration from{}, to{};
};

enum class Trouble {
  kKill,       ///< The process ends; after `lasts` it is started again.
  kFreeze,     ///< SIGSTOP and SIGCONT.
  kCut,        ///< The cable is pulled, both ways.
  kCutTo,      ///< Only what the coordinator hears.
  kCutFrom,    ///< Only what it says.
  kBadLink,    ///< Messages vanish, come twice, out of order, late.
  kDiskError,  ///< Experts cannot be read.
  kJoin,       ///< One more worker.
  kDrain,
  kRebalance,  ///< An operator sets a random placement.
  kPassOn,  ///< An operator gives each worker's experts to the next one, and freezes the balancer.
};

struct ScenarioEvent {
  Trouble trouble = Trouble::kKill;
  std::optional<size_t> worker;                 ///< 1 is the first; none: any.
  Span at;                                      ///< From the first step.
  std::optional<Span> lasts;                    ///< None: for ever.
  double drop = 0, duplicate = 0, reorder = 0;  ///< kBadLink
  Duration delay{};                             ///< kBadLink: up to so much more.
};

struct Scenario {
  std::string name;
  size_t num_workers = 3;
  size_t replicas = 1;
  size_t num_sequences = 6;
  size_t num_tokens = 16;  ///< Of each answer.
  Duration expert_wait = std::chrono::seconds(60);
  size_t room_experts = 1000;                         ///< Of each worker's memory.
  Duration load_time = std::chrono::milliseconds(3);  ///< Of one expert.
  /// Worker 1 holds one expert and nothing else, and nobody else holds that. Some texts need it,
  /// others do not: these are to go on whatever happens to it. All begin at once.
  bool lone_expert = false;
  /// Simulated time in which all must have ended.
  Duration limit = std::chrono::seconds(60);
  /// What answers must be: the tokens of an undisturbed run, or these and errors.
  bool expect_unavailable = false;
  /// Whether no token batch may have to be sent again.
  bool expect_calm = false;
  /// Whether the placement that was passed on must be reached, or the earlier one kept. None: as it
  /// comes.
  std::optional<bool> expect_passed_on;
  std::vector<ScenarioEvent> events;
};

/// kInvalidArgument names file, key and what was expected.
Result<Scenario> read_scenario(const std::filesystem::path& file);

}  // namespace pregate::simulation
