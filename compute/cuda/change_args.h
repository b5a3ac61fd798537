// The plain structs between the back end and the kernel that changes logits (logit_changes.h), as
// row_args.h has the others.
#pragma once

#include "compute/logit_changes.h"

namespace pregate::compute::cuda {

/// A row's part of a list of all rows.
struct ListPart {
  uint32_t first = 0, count = 0;
};

struct RowChanges {
  ListPart biases, said, forbidden;
  Penalties penalties;
};

/// compute::change_logits() of each row, to the bit.
struct ChangeLogitsArgs {
  float* x = nullptr;
  uint32_t stride = 0;
  uint32_t cols = 0;
  uint32_t num_rows = 0;
  const RowChanges* rows = nullptr;  ///< [num_rows]
  const TokenBias* biases = nullptr;
  const SaidToken* said = nullptr;
  const uint32_t* forbidden = nullptr;
};

}  // namespace pregate::compute::cuda
