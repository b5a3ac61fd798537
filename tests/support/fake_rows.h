// What is done to rows between the products, by plain loops, for FakeDevice.
#pragma once

#include "compute/cuda/change_args.h"
#include "compute/cuda/draw_args.h"
#include "compute/cuda/row_args.h"

namespace pregate::compute::cuda {

void fake_norm(const NormArgs& args);
void fake_encode_rows(const EncodeRowsArgs& args);
void fake_add(const AddArgs& args);
void fake_take_rows(const TakeRowsArgs& args);
void fake_sum_rows(const SumRowsArgs& args);
void fake_take_encoded(const TakeEncodedArgs& args);
void fake_choose_top_k(const TopKArgs& args);
void fake_find_largest(const LargestArgs& args);
void fake_draw(const DrawArgs& args);
void fake_change_logits(const ChangeLogitsArgs& args);

}  // namespace pregate::compute::cuda
