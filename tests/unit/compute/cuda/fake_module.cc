// A module with devices that are not there, for loader_test.cc: one that can be used, and one that
// is too old. What differs between the modules of the test is given by the build.
#include "compute/cuda/module.h"

namespace pregate::compute::cuda {
namespace {

class FakeModuleDevice final : public Device {
 public:
  DeviceInfo info() const override { return {.name = "Fake 9", .major = 9}; }
  Result<std::byte*> allocate(size_t) override { return none(); }
  void free(std::byte*) override {}
  Result<std::byte*> allocate_pinned(size_t) override { return none(); }
  void free_pinned(std::byte*) override {}
  Result<std::unique_ptr<Stream>> make_stream() override { return none(); }
  Result<DeviceLimits> measure_limits() override { return none(); }

 private:
  static tl::unexpected<Error> none() { return fail(ErrorCode::kUnimplemented, "fake"); }
};

Result<std::vector<DeviceInfo>> list_fakes() {
  return std::vector<DeviceInfo>{{.name = "Fake 9", .major = 9},
                                 {.name = "Fake 7", .major = 7, .minor = 5}};
}

Result<std::unique_ptr<Device>> open_fake(size_t) { return std::make_unique<FakeModuleDevice>(); }

}  // namespace
}  // namespace pregate::compute::cuda

extern "C" __attribute__((visibility("default"))) const pregate::compute::cuda::Module*
pregate_cuda_module() {
  using namespace pregate::compute::cuda;
  static const Module module{.head = {FAKE_MODULE_ABI, FAKE_MODULE_BUILD_ID},
                             .list_devices = list_fakes,
                             .open_device = open_fake};
  return &module;
}
