// What is done to logits on a device before tokens are drawn from them: it travels there as lists.
#pragma once

#include <span>

#include "base/result.h"
#include "compute/cuda/device.h"
#include "compute/cuda/outbox.h"
#include "compute/draw.h"
#include "compute/types.h"

namespace pregate::compute::cuda {

/// Begins to change logits in row memory as draws [logits.rows] say, which are free then; does
/// nothing if none says anything. However much there is to change, little memory is taken for it.
Status change_logits(Matrix<float> logits, std::span<const Draw> draws, Stream& stream,
                     Outbox& outbox);

}  // namespace pregate::compute::cuda
