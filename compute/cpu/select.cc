#include "compute/cpu/select.h"

#include <algorithm>

#include "base/log.h"
#include "compute/backend.h"
#include "compute/cpu/verify.h"

namespace pregate::compute::cpu {
namespace {

constexpr const char* kAllNames[] = {"cpu",         "cpu/avx512", "cpu/avx2",
                                     "cpu/generic", "cuda:N",     "reference"};

/// The portable set needs no check: it is what the others are checked against.
const KernelSet& fastest_verified(const std::vector<const KernelSet*>& sets) {
  for (const KernelSet* kernels : sets) {
    if (kernels == &kGenericKernels) break;
    const Status verified = verify_kernels(*kernels);
    if (verified) return *kernels;
    spdlog::warn("kernels not used: {}", verified.error().message);
  }
  return kGenericKernels;
}

}  // namespace

Result<const KernelSet*> select_kernels(const std::string& name) {
  const std::vector<const KernelSet*> sets = supported_kernels();
  if (name == "cpu") return &fastest_verified(sets);
  for (const KernelSet* kernels : sets) {
    if (name == kernels->name) return kernels;
  }
  if (std::ranges::find(kAllNames, name) != std::end(kAllNames)) {
    return fail(ErrorCode::kUnimplemented, "{}: this processor cannot run it; use one of: {}", name,
                fmt::join(available_backends(), ", "));
  }
  return fail(ErrorCode::kInvalidArgument, "{}: no such back end; known: {}", name,
              fmt::join(kAllNames, ", "));
}

}  // namespace pregate::compute::cpu
