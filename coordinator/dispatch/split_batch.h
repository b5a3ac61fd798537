// Sorts the rows of a batch by who is to compute them.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "engine/expert_client.h"
#include "protocol/messages.h"

namespace pregate::coordinator {

/// Rows of a batch, each with some of its experts.
struct Share {
  std::optional<WorkerId> worker;    ///< Who holds these experts; none: nobody does.
  std::vector<uint32_t> batch_rows;  ///< Of each row: its place in the batch. Ascending.
  protocol::ExpertTable table;       ///< Its rows are indices into `batch_rows`.
};

/// Names the worker for an expert of the batch's layer, if there is one. Asked once per expert.
using ChooseWorker = std::function<std::optional<WorkerId>(ExpertId)>;

/// In ascending order of worker; what nobody holds comes first.
std::vector<Share> split_batch(const engine::ExpertBatch& batch, const ChooseWorker& choose);
/// The same for a part of a batch.
std::vector<Share> split_share(const Share& share, const ChooseWorker& choose);

}  // namespace pregate::coordinator
