#include "compute/cpu/kernels.h"

namespace pregate::compute::cpu {
namespace {

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}

}  // namespace

std::vector<const KernelSet*> supported_kernels() {
  std::vector<const KernelSet*> sets;
  if (has_avx512()) sets.push_back(&kAvx512Kernels);
  if (has_avx2()) sets.push_back(&kAvx2Kernels);
  sets.push_back(&kGenericKernels);
  return sets;
}

}  // namespace pregate::compute::cpu
