// The lanes of one device, made of communicators.
#pragma once

#include <memory>
#include <string>

#include "transport/nccl/lane.h"

namespace pregate::transport {

/// See NcclModule.
std::string nccl_version();
Result<std::shared_ptr<LaneMaker>> open_device_lanes(size_t device);

}  // namespace pregate::transport
