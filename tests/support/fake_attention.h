// Heads on their way to attention, and attention, by plain loops, for FakeDevice.
#pragma once

#include "compute/cuda/attention_args.h"

namespace pregate::compute::cuda {

void fake_place_heads(const PlaceHeadsArgs& args);
void fake_attention(const AttentionArgs& args);

}  // namespace pregate::compute::cuda
