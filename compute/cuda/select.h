// Back ends on CUDA devices by name, for the registry.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/backend.h"
#include "compute/limits.h"

namespace pregate::compute::cuda {

/// For make_backend(). Errors of parse_cuda_name() and Devices::open().
Result<std::unique_ptr<Backend>> open_backend(const std::string& name, ThreadPool& threads);

/// For measure_limits(). Errors as those of open_backend(); kResourceExhausted if the device has no
/// memory left to measure with.
Result<MachineLimits> measure_device(const std::string& name);

/// "cuda:N" of each device that can be used; none if anything stands in the way.
std::vector<std::string> usable_devices();

/// For people: the devices and what they are, or why there are none.
std::string describe_devices();

}  // namespace pregate::compute::cuda
