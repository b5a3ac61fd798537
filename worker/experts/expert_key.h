// Names one expert of a model.
#pragma once

#include <utility>

#include "base/ids.h"

namespace pregate::worker {

using ExpertKey = std::pair<LayerIdx, ExpertId>;

}  // namespace pregate::worker
