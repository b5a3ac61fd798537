#include "transport/nccl/loader.h"

#include "base/cuda_name.h"
#include "transport/nccl/module.h"

namespace pregate::transport {
namespace {

const ModuleKind kKind{.name = "NCCL",
                       .file_name = "pregate_nccl.so",
                       .variable = "PREGATE_NCCL_MODULE",
                       .entry = kNcclModuleEntry,
                       .needs = "the CUDA toolkit with NCCL",
                       .head = {kNcclModuleAbi, kNcclBuildId}};

Result<const NcclModule*> load() {
  PREGATE_ASSIGN(const ModuleHead* const head, load_module(kKind, module_paths(kKind)));
  return reinterpret_cast<const NcclModule*>(head);
}

Result<std::shared_ptr<LaneMaker>> open(const std::string& device) {
  PREGATE_ASSIGN(const size_t index, parse_cuda_name(device));
  PREGATE_ASSIGN(const NcclModule* const module, load());
  return module->open(index);
}

}  // namespace

Result<std::shared_ptr<LaneMaker>> open_nccl(const std::string& device) {
  auto lanes = open(device);
  if (!lanes) return fail(in_context(std::move(lanes.error()), device));
  return lanes;
}

std::string describe_nccl() {
  const auto module = load();
  return module ? (*module)->version() : module.error().message;
}

}  // namespace pregate::transport
