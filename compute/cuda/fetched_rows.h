// Rows that need not be laid out, as products fetch them where they are encoded.
#pragma once

#include <cstdint>

#include "compute/cuda/args.h"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {

/// Lets `product`, of which all but the rows' place is known, fetch the rows itself that gather()
/// would lay out for it. False: it cannot, and nothing has changed.
inline bool let_fetch(const GatherArgs& rows, GemmArgs& product) {
  // Who gathers by a table waits for whoever wrote it, so that products need not.
  if (rows.source != nullptr) return false;
  if (!can_fetch(rows.format, rows.cols, product.max_rows)) return false;
  if (reinterpret_cast<uintptr_t>(rows.encoded) % 16 != 0) return false;
  product.encoded = rows.encoded;
  return true;
}

}  // namespace pregate::compute::cuda
