#include "compute/cuda/loader.h"

namespace pregate::compute::cuda {
namespace {

const ModuleKind kKind{.name = "CUDA",
                       .file_name = "pregate_cuda.so",
                       .variable = "PREGATE_CUDA_MODULE",
                       .entry = kModuleEntry,
                       .needs = "the CUDA toolkit",
                       .head = {kModuleAbi, kBuildId}};

std::string count_of(size_t devices) {
  if (devices == 0) return "no CUDA device";
  return fmt::format("{} CUDA device{}", devices, devices == 1 ? "" : "s");
}

}  // namespace

Result<std::vector<DeviceInfo>> Devices::list() {
  const std::scoped_lock lock(mutex_);
  PREGATE_TRY(load());
  return module_->list_devices();
}

Result<std::shared_ptr<Device>> Devices::open(size_t index) {
  const std::scoped_lock lock(mutex_);
  if (const auto found = open_.find(index); found != open_.end()) return found->second;
  const std::string name = fmt::format("cuda:{}", index);
  if (const Status opened = open_new(index); !opened) {
    Error error = opened.error();
    return fail(error.message.starts_with(name) ? error : in_context(std::move(error), name));
  }
  return open_.at(index);
}

Status Devices::load() {
  if (module_ != nullptr) return {};
  PREGATE_ASSIGN(const ModuleHead* const head, load_module(kKind, paths_));
  module_ = reinterpret_cast<const Module*>(head);
  return {};
}

Status Devices::check(size_t index) {
  PREGATE_ASSIGN(const auto devices, module_->list_devices());
  if (index >= devices.size()) {
    return fail(ErrorCode::kNotFound, "this machine has {}", count_of(devices.size()));
  }
  const DeviceInfo& device = devices[index];
  if (is_usable(device)) return {};
  return fail(ErrorCode::kUnimplemented, "{} has compute capability {}.{}, needed is {}.0 or newer",
              device.name, device.major, device.minor, kMinMajor);
}

Status Devices::open_new(size_t index) {
  PREGATE_TRY(load());
  PREGATE_TRY(check(index));
  PREGATE_ASSIGN(open_[index], module_->open_device(index));
  return {};
}

Devices& devices() {
  // Never destroyed: who still has a device at the end of the process may use it.
  static Devices* const all = new Devices(module_paths(kKind));
  return *all;
}

}  // namespace pregate::compute::cuda
