// Finds out what the checks of `pregate doctor` need to know about this host.
#pragma once

#include "cli/doctor/report.h"
#include "cli/serve.h"
#include "model/summary.h"

namespace pregate::cli::doctor {

enum class Role { kAll, kCoordinator, kWorker };
const char* to_string(Role role);

struct Settings : ServeOptions {
  Role role = Role::kAll;
  std::string interface;  ///< --iface
  bool in_mpi = false;
  uint32_t rank = 0;
};

/// What processes of the role hold on this host: `settings.num_workers` share the experts.
Memory memory_needed(const model::ModelSummary& summary, const model::ModelConfig& config,
                     const Settings& settings);

/// What of that lies in the memory of a back end that has its own; the rest is the host's. `format`
/// is that of the weights.
Memory on_device(const Memory& memory, const model::ModelSummary& summary,
                 compute::WeightFormat format);

/// All checks of this host.
Report look(const Settings& settings);

}  // namespace pregate::cli::doctor
