// Back ends by name: the machine's, and such as tests alone have.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compute/backend.h"

namespace pregate::test_support {

/// The CUDA back end on the processor (tests/support/fake_device.h): all of it but the kernels.
inline constexpr const char* kFakeCuda = "cuda:fake";
/// The same with next to no memory for rows, so that nearly every call is computed in slices.
inline constexpr const char* kSlicedCuda = "cuda:sliced";
/// The same with the project's own kernels (tests/support/emulated_cuda/device.h), which are not in
/// every build.
inline constexpr const char* kEmulatedCuda = "cuda:emulated";
/// And with those for compute capability 9.0.
inline constexpr const char* kEmulatedHopper = "cuda:emulated_9";

bool has_emulated_cuda();

/// Takes those names, and the others as compute::make_backend() does.
Result<std::unique_ptr<compute::Backend>> make_backend(const std::string& name,
                                                       ThreadPool& threads);

/// Those of this machine and those above.
std::vector<std::string> backend_names();

}  // namespace pregate::test_support
