#pragma once

#include "base/result.h"
#include "compute/backend.h"

namespace pregate::compute {

/// kInvalidArgument for a shape no back end can store.
Status check_kv_shape(const KvShape& shape);

}  // namespace pregate::compute
