#pragma once

#include "base/result.h"
#include "compute/backend.h"

namespace pregate::compute {

/// kInvalidArgument for a shape no back end can store.
Status check_kv_shape(const KvShape& shape);

/// Whether Backend::place_heads() can do that with such rows.
bool heads_fit(const KvShape& shape, const HeadOptions& options, Matrix<const float> q,
               Matrix<const float> k, Matrix<const float> v);

}  // namespace pregate::compute
