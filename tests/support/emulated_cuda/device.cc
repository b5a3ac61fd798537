#include "tests/support/emulated_cuda/device.h"

#include "compute/cuda/runtime_device.h"

namespace pregate::compute::cuda {

Result<std::unique_ptr<Device>> open_emulated_device(int major) {
  return open_runtime_device(major == 9 ? 1 : 0);
}

}  // namespace pregate::compute::cuda
