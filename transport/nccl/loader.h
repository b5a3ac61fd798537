// Finds and loads the module with the NCCL code.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "transport/nccl/lane.h"

namespace pregate::transport {

/// The lanes of a device, "cuda:1" or "cuda" for the first. Errors name it: kInvalidArgument for
/// another name, kUnimplemented if there is no module or it cannot be loaded, and those of
/// NcclModule::open.
Result<std::shared_ptr<LaneMaker>> open_nccl(const std::string& device);

/// "2.28.9", or why there is none.
std::string describe_nccl();

}  // namespace pregate::transport
