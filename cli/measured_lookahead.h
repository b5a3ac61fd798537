// Look-ahead as a served model has it: measured in the metrics, and followed only while it pays.
#pragma once

#include "cli/model_runtime.h"
#include "monitoring/metrics/registry.h"

namespace pregate::cli {

/// Empty where there is to be none. The registry must outlive the runtime.
MakeLookahead measured_lookahead(const router::LookaheadOptions& options,
                                 monitoring::Registry& registry);

}  // namespace pregate::cli
