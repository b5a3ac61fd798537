// A module in whose place pregate_cuda.so would be: what processes load that are to compute on a
// fake device, in the tests of whole clusters.
#include "compute/cuda/module.h"
#include "tests/support/fake_device.h"

namespace pregate::compute::cuda {
namespace {

Result<std::vector<DeviceInfo>> list_devices() { return std::vector{FakeDevice().info()}; }

Result<std::unique_ptr<Device>> open_device(size_t /*index*/) {
  return std::make_unique<FakeDevice>();
}

}  // namespace
}  // namespace pregate::compute::cuda

extern "C" __attribute__((visibility("default"))) const pregate::compute::cuda::Module*
pregate_cuda_module() {
  using namespace pregate::compute::cuda;
  static const Module module{.list_devices = list_devices, .open_device = open_device};
  return &module;
}
