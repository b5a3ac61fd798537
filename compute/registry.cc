#include "base/cuda_name.h"
#include "compute/backend.h"
#include "compute/cpu/backend.h"
#include "compute/cpu/select.h"
#include "compute/cuda/select.h"
#include "compute/reference/backend.h"

namespace pregate::compute {
namespace {

Result<std::unique_ptr<Backend>> make_cuda(const std::string& name, ThreadPool& threads) {
  auto backend = cuda::open_backend(name, threads);
  if (backend || backend.error().code == ErrorCode::kInvalidArgument) return backend;
  Error error = std::move(backend.error());
  error.message += fmt::format("; use one of: {}", fmt::join(available_backends(), ", "));
  return fail(std::move(error));
}

}  // namespace

std::vector<std::string> available_backends() {
  std::vector<std::string> names;
  for (const cpu::KernelSet* kernels : cpu::supported_kernels()) names.push_back(kernels->name);
  for (std::string& name : cuda::usable_devices()) names.push_back(std::move(name));
  names.push_back("reference");
  return names;
}

WeightFormat kept_format(const std::string& name, WeightFormat format) {
  return name == "reference" && format == WeightFormat::kQ4 ? WeightFormat::kQ8 : format;
}

Result<std::unique_ptr<Backend>> make_backend(const std::string& name, ThreadPool& threads) {
  if (name == "reference") return std::make_unique<reference::ReferenceBackend>();
  if (is_cuda_name(name)) return make_cuda(name, threads);
  PREGATE_ASSIGN(const cpu::KernelSet* kernels, cpu::select_kernels(name));
  return std::make_unique<cpu::CpuBackend>(*kernels, threads);
}

}  // namespace pregate::compute
