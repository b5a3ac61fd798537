// The batch policies on a real engine: experts as the model's router says, time as it passes.
#pragma once

#include "cli/options.h"

namespace pregate::cli {

/// Prints what each policy made of the same requests. All are there from the start, so that time
/// per token is for the most part waiting. A model without a pre-gating router is left out, which
/// is said.
Status print_real_batches(const ModelOptions& model, uint64_t seed);

}  // namespace pregate::cli
