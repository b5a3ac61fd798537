// The contract between the program and `pregate_nccl.so`, the module with all that needs NCCL. The
// program loads it when it is told to use NCCL (loader.h), so that it runs where there is none.
#pragma once

#include <memory>
#include <string>

#include "base/module.h"
#include "base/result.h"
#include "transport/nccl/lane.h"

namespace pregate::transport {

/// See ModuleHead.
inline constexpr uint32_t kNcclModuleAbi = 1;
inline constexpr const char* kNcclModuleEntry = "pregate_nccl_module";

/// Names compiler and the headers whose types cross: equal in a program and a module that fit.
extern const char* const kNcclBuildId;

struct NcclModule {
  ModuleHead head{kNcclModuleAbi, kNcclBuildId};

  /// "2.28.9" of the library that was found.
  std::string (*version)() = nullptr;
  /// Has NCCL carry bytes from the device to itself first, so that what does not work is known at
  /// the start. Takes about a second. Errors: kUnimplemented without a driver that will do,
  /// kNotFound if there is no such device, kUnavailable with what NCCL or the driver says.
  Result<std::shared_ptr<LaneMaker>> (*open)(size_t device) = nullptr;
};

}  // namespace pregate::transport
