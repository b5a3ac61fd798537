#include "coordinator/placement/placement.h"

#include <algorithm>

#include "base/check.h"
#include "protocol/expert_ranges.h"

namespace pregate::coordinator {

PlacementShape placement_shape(const model::ModelConfig& config) {
  PlacementShape shape;
  shape.num_experts = static_cast<uint32_t>(config.num_experts);
  shape.one_route = config.pregate.has_value();
  for (uint32_t layer = 0; layer < config.layers.size(); ++layer) {
    if (config.layers[layer].is_moe) shape.layers.push_back(LayerIdx(layer));
  }
  return shape;
}

Placement::Placement(uint64_t version, const PlacementShape& shape)
    : version_(version), num_experts_(shape.num_experts) {
  const size_t num_layers = shape.layers.empty() ? 0 : shape.layers.back().value + size_t{1};
  table_.resize(num_layers * num_experts_);
}

uint32_t Placement::num_layers() const {
  return num_experts_ == 0 ? 0 : static_cast<uint32_t>(table_.size() / num_experts_);
}

size_t Placement::index_of(LayerIdx layer, ExpertId expert) const {
  return size_t{layer.value} * num_experts_ + expert.value;
}

std::span<const WorkerId> Placement::workers(LayerIdx layer, ExpertId expert) const {
  const size_t index = index_of(layer, expert);
  if (expert.value >= num_experts_ || index >= table_.size()) return {};
  return table_[index];
}

void Placement::add_replica(LayerIdx layer, ExpertId expert, WorkerId worker) {
  const size_t index = index_of(layer, expert);
  PREGATE_CHECK(expert.value < num_experts_ && index < table_.size());
  table_[index].push_back(worker);
}

std::vector<protocol::ExpertRange> Placement::assigned_to(WorkerId worker) const {
  std::vector<protocol::ExpertRange> ranges;
  for (size_t index = 0; index < table_.size(); ++index) {
    const auto& replicas = table_[index];
    if (std::find(replicas.begin(), replicas.end(), worker) == replicas.end()) continue;
    protocol::append_expert(ranges, LayerIdx(static_cast<uint32_t>(index / num_experts_)),
                            ExpertId(static_cast<uint32_t>(index % num_experts_)));
  }
  return ranges;
}

Placement even_placement(uint64_t version, const PlacementShape& shape,
                         std::span<const WorkerId> workers) {
  PREGATE_CHECK(!workers.empty());
  Placement placement(version, shape);
  const size_t share = shape.num_experts / workers.size();
  const size_t remainder = shape.num_experts % workers.size();
  size_t first_with_more = 0;
  for (const LayerIdx layer : shape.layers) {
    uint32_t expert = 0;
    for (size_t i = 0; i < workers.size(); ++i) {
      const size_t turn = (i + workers.size() - first_with_more) % workers.size();
      const size_t count = share + (turn < remainder ? 1 : 0);
      for (size_t j = 0; j < count; ++j) {
        placement.add_replica(layer, ExpertId(expert++), workers[i]);
      }
    }
    first_with_more = (first_with_more + remainder) % workers.size();
  }
  return placement;
}

}  // namespace pregate::coordinator
