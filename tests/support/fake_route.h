// What the kernel that plans where routed rows go does, in plain code, for FakeDevice.
#pragma once

#include "compute/cuda/route_args.h"

namespace pregate::compute::cuda {

void fake_route(const RouteArgs& args);

}  // namespace pregate::compute::cuda
