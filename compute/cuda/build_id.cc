#include "compute/cuda/module.h"

namespace pregate::compute::cuda {

const char* const kBuildId = PREGATE_BUILD_ID;

}  // namespace pregate::compute::cuda
