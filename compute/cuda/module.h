// The contract between the program and `pregate_cuda.so`, the module with all that needs CUDA. The
// program loads it when a CUDA device is asked for (loader.h), so that it runs where there is none.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/module.h"
#include "base/result.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

/// See ModuleHead.
inline constexpr uint32_t kModuleAbi = 1;
inline constexpr const char* kModuleEntry = "pregate_cuda_module";

/// Names compiler and the headers whose types cross: equal in a program and a module that fit.
extern const char* const kBuildId;

struct Module {
  ModuleHead head{kModuleAbi, kBuildId};

  /// All devices of this machine, whether they can be used or not; free_bytes is 0. Takes nothing
  /// of them. Error kUnimplemented: there is no driver, or a driver that is too old.
  Result<std::vector<DeviceInfo>> (*list_devices)() = nullptr;
  /// `index` is one of the list's. Error kUnavailable: the driver refuses it.
  Result<std::unique_ptr<Device>> (*open_device)(size_t index) = nullptr;
};

/// The type of the function kModuleEntry, which has C linkage. Never null.
using ModuleEntry = const Module* (*)();

}  // namespace pregate::compute::cuda
