// A service with all experts in its own process.
#pragma once

#include "cli/service.h"

namespace pregate::cli {

Status serve_locally(const ServiceOptions& options, bool per_expert_metrics, Signals& signals);

}  // namespace pregate::cli
