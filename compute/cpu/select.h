#pragma once

#include <string>

#include "base/result.h"
#include "compute/cpu/kernels.h"

namespace pregate::compute::cpu {

/// "cpu": the fastest kernels this processor runs, once verified; or a set by its name. Errors as
/// for make_backend().
Result<const KernelSet*> select_kernels(const std::string& name);

}  // namespace pregate::compute::cpu
