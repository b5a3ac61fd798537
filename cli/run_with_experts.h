// For commands that compute with a model and end: experts here, or spread over mpirun's ranks.
#pragma once

#include <functional>

#include "cli/cluster_experts.h"

namespace pregate::cli {

struct ExpertsOptions : ClusterExpertsOptions {
  ExpertMemoryOptions memory;
  GeneralOptions general;
};

/// All flags of ExpertsOptions but the model's, which commands want first in their help.
void add_experts_flags(Flags& flags, ExpertsOptions& options);

/// Calls `compute` in this process, with progress shown to people while the model loads. Under
/// mpirun only rank 0 does; the other ranks own the experts until it is done.
Status run_with_experts(const std::string& command, const ExpertsOptions& options,
                        const std::function<Status(const ExpertsHooks& experts,
                                                   const PhaseProgress& progress)>& compute);

}  // namespace pregate::cli
