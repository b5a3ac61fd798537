// Device by the CUDA runtime. Part of the module, as are the kernels it launches.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

// As Module::list_devices and Module::open_device.
Result<std::vector<DeviceInfo>> list_runtime_devices();
Result<std::unique_ptr<Device>> open_runtime_device(size_t index);

}  // namespace pregate::compute::cuda
