#include <algorithm>

#include "base/log.h"
#include "compute/backend.h"
#include "compute/cpu/backend.h"
#include "compute/cpu/verify.h"
#include "compute/reference/backend.h"

namespace pregate::compute {
namespace {

constexpr const char* kAllNames[] = {"cpu", "cpu/avx512", "cpu/avx2", "cpu/generic", "reference"};

/// The fastest set that computes what the portable one does, and the portable one failing that.
const cpu::KernelSet& fastest_kernels() {
  for (const cpu::KernelSet* kernels : cpu::supported_kernels()) {
    const Status verified = cpu::verify_kernels(*kernels);
    if (verified) return *kernels;
    spdlog::warn("not used: {}", verified.error().message);
  }
  return cpu::kGenericKernels;
}

}  // namespace

std::vector<std::string> available_backends() {
  std::vector<std::string> names;
  for (const cpu::KernelSet* kernels : cpu::supported_kernels()) names.push_back(kernels->name);
  names.push_back("reference");
  return names;
}

Result<std::unique_ptr<Backend>> make_backend(const std::string& name, ThreadPool& threads) {
  if (name == "reference") return std::make_unique<reference::ReferenceBackend>();
  if (name == "cpu") return std::make_unique<cpu::CpuBackend>(fastest_kernels(), threads);
  for (const cpu::KernelSet* kernels : cpu::supported_kernels()) {
    if (name == kernels->name) return std::make_unique<cpu::CpuBackend>(*kernels, threads);
  }
  if (std::ranges::find(kAllNames, name) != std::end(kAllNames)) {
    return fail(ErrorCode::kUnimplemented, "{}: this processor cannot run it; use one of: {}", name,
                fmt::join(available_backends(), ", "));
  }
  return fail(ErrorCode::kInvalidArgument, "{}: no such back end; known: {}", name,
              fmt::join(kAllNames, ", "));
}

}  // namespace pregate::compute
