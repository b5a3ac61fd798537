#pragma once

#include "base/result.h"
#include "compute/cpu/kernels.h"

namespace pregate::compute::cpu {

/// Compares a kernel set with the portable one on a small random problem (about 1 ms): kInternal,
/// naming the operation, if they differ. A processor, hypervisor or compiler that gets a newer
/// instruction wrong is then found at start-up and not in the tokens.
Status verify_kernels(const KernelSet& kernels);

}  // namespace pregate::compute::cpu
