#include "tests/support/emulated_cuda/device.h"

namespace pregate::compute::cuda {

Result<std::unique_ptr<Device>> open_emulated_device(int) {
  return fail(ErrorCode::kUnimplemented, "there is no emulated device in this build");
}

}  // namespace pregate::compute::cuda
