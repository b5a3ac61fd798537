#include "transport/nccl/loader.h"

#include <charconv>

#include "transport/nccl/module.h"

namespace pregate::transport {
namespace {

const ModuleKind kKind{.name = "NCCL",
                       .file_name = "pregate_nccl.so",
                       .variable = "PREGATE_NCCL_MODULE",
                       .entry = kNcclModuleEntry,
                       .needs = "the CUDA toolkit with NCCL",
                       .head = {kNcclModuleAbi, kNcclBuildId}};

Result<size_t> parse_device(std::string_view name) {
  constexpr std::string_view kPrefix = "cuda:";
  if (name == "cuda") return size_t{0};
  size_t index = 0;
  if (name.starts_with(kPrefix)) {
    const std::string_view digits = name.substr(kPrefix.size());
    const char* const last = digits.data() + digits.size();
    const auto [end, error] = std::from_chars(digits.data(), last, index);
    if (error == std::errc() && end == last) return index;
  }
  return fail(ErrorCode::kInvalidArgument, "expected a CUDA device such as cuda:0");
}

Result<const NcclModule*> load() {
  PREGATE_ASSIGN(const ModuleHead* const head, load_module(kKind, module_paths(kKind)));
  return reinterpret_cast<const NcclModule*>(head);
}

Result<std::shared_ptr<LaneMaker>> open(const std::string& device) {
  PREGATE_ASSIGN(const size_t index, parse_device(device));
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
