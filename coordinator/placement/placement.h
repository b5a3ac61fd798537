// Which worker holds which expert.
#pragma once

#include <span>
#include <vector>

#include "model/config.h"
#include "protocol/messages.h"

namespace pregate::coordinator {

/// What is to be placed: so many experts in each of these layers.
struct PlacementShape {
  std::vector<LayerIdx> layers;  ///< The MoE layers, ascending.
  uint32_t num_experts = 0;      ///< Of each.
  /// A token goes to the same expert in all layers, as with a pre-gating router.
  bool one_route = false;
};

PlacementShape placement_shape(const model::ModelConfig& config);

/// A table (layer, expert) -> workers, replaced as a whole when it changes: the version tells one
/// from the next.
class Placement {
 public:
  Placement(uint64_t version, const PlacementShape& shape);

  uint64_t version() const { return version_; }
  void set_version(uint64_t version) { version_ = version; }
  /// Up to the last one of the shape, those without experts included.
  uint32_t num_layers() const;
  uint32_t num_experts() const { return num_experts_; }
  /// The replicas of an expert, preferred one first; empty if it is placed nowhere.
  std::span<const WorkerId> workers(LayerIdx layer, ExpertId expert) const;
  void add_replica(LayerIdx layer, ExpertId expert, WorkerId worker);
  /// Whether the tables are the same, whatever their versions.
  bool same_replicas(const Placement& other) const { return table_ == other.table_; }
  /// All that a worker holds, in ascending order.
  std::vector<protocol::ExpertRange> assigned_to(WorkerId worker) const;

 private:
  size_t index_of(LayerIdx layer, ExpertId expert) const;

  uint64_t version_ = 0;
  uint32_t num_experts_ = 0;
  std::vector<std::vector<WorkerId>> table_;  // [layer * num_experts + expert]
};

/// One replica of each expert: every layer is cut into runs of neighbours, and the workers that
/// get one more change from layer to layer, so that totals differ by one at most.
Placement even_placement(uint64_t version, const PlacementShape& shape,
                         std::span<const WorkerId> workers);

}  // namespace pregate::coordinator
