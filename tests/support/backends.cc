#include "tests/support/backends.h"

#include "compute/cuda/backend.h"
#include "tests/support/emulated_cuda/device.h"
#include "tests/support/fake_device.h"

namespace pregate::test_support {

using compute::cuda::CudaBackend;

bool has_emulated_cuda() { return compute::cuda::open_emulated_device(8).has_value(); }

Result<std::unique_ptr<compute::Backend>> make_backend(const std::string& name,
                                                       ThreadPool& threads) {
  if (name == kEmulatedCuda || name == kEmulatedHopper) {
    const int major = name == kEmulatedHopper ? 9 : 8;
    PREGATE_ASSIGN(auto device, compute::cuda::open_emulated_device(major));
    return CudaBackend::create(std::move(device), name, threads);
  }
  if (name != kFakeCuda && name != kSlicedCuda) return compute::make_backend(name, threads);
  const size_t row_bytes = name == kSlicedCuda ? 4096 : 0;
  return CudaBackend::create(std::make_shared<compute::cuda::FakeDevice>(), name, threads,
                             row_bytes);
}

std::vector<std::string> backend_names() {
  std::vector<std::string> names = compute::available_backends();
  names.insert(names.end(), {kFakeCuda, kSlicedCuda});
  if (has_emulated_cuda()) names.insert(names.end(), {kEmulatedCuda, kEmulatedHopper});
  return names;
}

}  // namespace pregate::test_support
