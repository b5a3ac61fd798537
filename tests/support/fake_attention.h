// Storing keys and values and attention over them by plain loops, for FakeDevice.
#pragma once

#include "compute/cuda/attention_args.h"

namespace pregate::compute::cuda {

void fake_store_kv(const StoreKvArgs& args);
void fake_attention(const AttentionArgs& args);

}  // namespace pregate::compute::cuda
