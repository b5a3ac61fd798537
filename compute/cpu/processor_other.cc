#include "compute/cpu/kernels.h"

namespace pregate::compute::cpu {

std::vector<const KernelSet*> supported_kernels() { return {&kGenericKernels}; }

}  // namespace pregate::compute::cpu
