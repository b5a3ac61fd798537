// Products and the rows that go in and out of them, by plain loops, for FakeDevice.
#pragma once

#include "compute/cuda/args.h"

namespace pregate::compute::cuda {

void fake_gather(const GatherArgs& args);
void fake_gemm(const GemmArgs& given);
void fake_encode(const EncodeArgs& args);
void fake_combine(const CombineArgs& args);

}  // namespace pregate::compute::cuda
