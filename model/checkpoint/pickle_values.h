// The last step of unpickling: from the graph a pickle built to values that contain no cycle.
#pragma once

#include "base/result.h"
#include "model/checkpoint/pickle_objects.h"
#include "model/checkpoint/torch_value.h"

namespace pregate::model {

/// Whatever hangs on `root`. Refuses cycles, dicts with keys that are no string or integer or occur
/// twice, and what is deeper or, with shared containers counted each time, larger than the bounds
/// of unpickler.h: so that a caller may simply walk it.
Result<TorchValue> to_value(const PickleItem& root);

}  // namespace pregate::model
