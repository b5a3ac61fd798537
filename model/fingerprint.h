// Tells one checkpoint from another, so that the processes of a cluster do not mix them.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace pregate::model {

class Checkpoint;  // model/checkpoint/checkpoint.h

/// A hash of every tensor's name, type and shape and of a few bytes of some of them: equal for
/// copies of a checkpoint on different hosts, different after training or conversion. Reads a few
/// pages only. It guards against mistakes, not against forgery.
Result<uint64_t> fingerprint(const Checkpoint& checkpoint);

}  // namespace pregate::model
