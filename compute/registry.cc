#include "compute/backend.h"
#include "compute/cpu/backend.h"
#include "compute/cpu/select.h"
#include "compute/reference/backend.h"

namespace pregate::compute {

std::vector<std::string> available_backends() {
  std::vector<std::string> names;
  for (const cpu::KernelSet* kernels : cpu::supported_kernels()) names.push_back(kernels->name);
  names.push_back("reference");
  return names;
}

Result<std::unique_ptr<Backend>> make_backend(const std::string& name, ThreadPool& threads) {
  if (name == "reference") return std::make_unique<reference::ReferenceBackend>();
  PREGATE_ASSIGN(const cpu::KernelSet* kernels, cpu::select_kernels(name));
  return std::make_unique<cpu::CpuBackend>(*kernels, threads);
}

}  // namespace pregate::compute
