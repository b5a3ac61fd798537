#include "coordinator/placement/load_meter.h"

#include <cmath>

namespace pregate::coordinator {

LoadMeter::LoadMeter(const PlacementShape& shape, Duration half_life)
    : num_experts_(shape.num_experts),
      half_life_seconds_(to_seconds(half_life)),
      positions_(shape.layers.empty() ? 0 : shape.layers.back().value + size_t{1}),
      added_(std::make_unique<std::atomic<uint64_t>[]>(shape.layers.size() * num_experts_)),
      loads_(shape.layers.size(), std::vector<double>(num_experts_, 0)) {
  for (size_t i = 0; i < shape.layers.size(); ++i) positions_[shape.layers[i].value] = i;
}

void LoadMeter::add(LayerIdx layer, ExpertId expert, uint64_t rows) {
  if (layer.value >= positions_.size() || !positions_[layer.value]) return;
  if (expert.value >= num_experts_) return;
  added_[*positions_[layer.value] * num_experts_ + expert.value].fetch_add(
      rows, std::memory_order_relaxed);
}

ExpertLoads LoadMeter::read(TimePoint now) {
  std::lock_guard lock(mutex_);
  const double half_lives = read_at_ ? to_seconds(now - *read_at_) / half_life_seconds_ : 0;
  const double left = std::exp2(-half_lives);
  read_at_ = now;
  for (size_t layer = 0; layer < loads_.size(); ++layer) {
    for (size_t i = 0; i < num_experts_; ++i) {
      const uint64_t rows = added_[layer * num_experts_ + i].exchange(0, std::memory_order_relaxed);
      loads_[layer][i] = loads_[layer][i] * left + static_cast<double>(rows);
    }
  }
  return loads_;
}

}  // namespace pregate::coordinator
