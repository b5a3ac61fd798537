#include "compute/top_k.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "compute/number.h"

namespace pregate::compute {
namespace {

/// Inserts where the order demands it, if at all; `ids` are sorted. Later ids come after equal
/// ones.
void insert(std::span<const float> logits, uint32_t id, std::span<uint32_t> ids, size_t count) {
  const uint32_t rank = rank_of(logits[id]);
  size_t at = count;
  while (at > 0 && rank > rank_of(logits[ids[at - 1]])) --at;
  if (at == ids.size()) return;
  const size_t num_moved = std::min(count, ids.size() - 1) - at;
  const std::span<uint32_t> moved = ids.subspan(at, num_moved);
  std::ranges::copy_backward(moved, moved.end() + 1);
  ids[at] = id;
}

}  // namespace

void choose_top_k(std::span<const float> logits, const TopKOptions& options, const TopK& out) {
  PREGATE_CHECK(options.k > 0 && options.k <= logits.size());
  const std::span<uint32_t> ids = out.ids.first(options.k);
  for (uint32_t id = 0; id < logits.size(); ++id) {
    insert(logits, id, ids, std::min<size_t>(id, ids.size()));
  }
  const float max = logits[ids.front()];
  float sum = 0.0f, chosen_sum = 0.0f;
  for (const float logit : logits) sum += std::exp(logit - max);
  for (size_t i = 0; i < ids.size(); ++i) {
    out.gates[i] = std::exp(logits[ids[i]] - max) / sum;
    chosen_sum += out.gates[i];
  }
  if (!options.normalize) return;
  for (float& gate : out.gates.first(options.k)) gate /= chosen_sum;
}

}  // namespace pregate::compute
