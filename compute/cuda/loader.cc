#include "compute/cuda/loader.h"

#include <algorithm>
#include <cstdlib>

#include <dlfcn.h>

namespace pregate::compute::cuda {
namespace {

constexpr const char* kVariable = "PREGATE_CUDA_MODULE";
constexpr const char* kFileName = "pregate_cuda.so";

std::string list_of(const std::vector<std::filesystem::path>& paths) {
  std::string list;
  for (const auto& path : paths) list += (list.empty() ? "" : ", ") + path.string();
  return list;
}

bool exists(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

/// What dlopen() or dlsym() just complained of.
std::string complaint() {
  const char* const text = ::dlerror();
  return text == nullptr ? "no reason given" : text;
}

Status check_build(const std::filesystem::path& path, const Module& module) {
  if (module.abi == kModuleAbi && std::string_view(module.build_id) == kBuildId) return {};
  const std::string other =
      module.abi == kModuleAbi ? module.build_id : fmt::format("interface {}", module.abi);
  return fail(ErrorCode::kUnimplemented,
              "{} is of another build of pregate ({}; expected {}): install both from the same one",
              path.string(), other, kBuildId);
}

Result<const Module*> load_module(const std::filesystem::path& path) {
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return fail(ErrorCode::kUnimplemented, "the CUDA module cannot be loaded: {}", complaint());
  }
  const auto entry = reinterpret_cast<ModuleEntry>(::dlsym(library, kModuleEntry));
  if (entry == nullptr) {
    return fail(ErrorCode::kUnimplemented, "{} is no CUDA module of pregate: {}", path.string(),
                complaint());
  }
  const Module* const module = entry();
  PREGATE_TRY(check_build(path, *module));
  return module;
}

std::string count_of(size_t devices) {
  if (devices == 0) return "no CUDA device";
  return fmt::format("{} CUDA device{}", devices, devices == 1 ? "" : "s");
}

}  // namespace

std::vector<std::filesystem::path> module_paths() {
  const char* const given = std::getenv(kVariable);
  if (given != nullptr && *given != '\0') return {given};
  std::error_code error;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  return {folder / kFileName, folder.parent_path() / "lib" / "pregate" / kFileName};
}

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
  const auto found = std::ranges::find_if(paths_, exists);
  if (found == paths_.end()) {
    return fail(ErrorCode::kUnimplemented,
                "no CUDA module: looked for {}; build pregate where the CUDA toolkit is",
                list_of(paths_));
  }
  PREGATE_ASSIGN(module_, load_module(*found));
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
  static Devices* const all = new Devices(module_paths());
  return *all;
}

}  // namespace pregate::compute::cuda
