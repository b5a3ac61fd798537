// What the page at / shows of a served model, as JSON: the answer of GET /live, whose fields
// docs/live-page.md describes.
#pragma once

#include <span>

#include <boost/json.hpp>

#include "coordinator/membership/cluster.h"
#include "coordinator/placement/load_meter.h"
#include "monitoring/metrics/serving_probe.h"

namespace pregate::cli {

boost::json::object describe_figures(const monitoring::ServingFigures& figures);
/// Without what only administrators are to know.
boost::json::object describe_members(const coordinator::ClusterInfo& info, TimePoint now);

/// The rows that experts got of late. Thread-safe.
class RecentRows {
 public:
  explicit RecentRows(coordinator::PlacementShape shape);

  /// Of one step in one layer: `rows` has a number for each expert.
  void add(LayerIdx layer, std::span<const uint64_t> rows);
  boost::json::object describe(TimePoint now);

 private:
  const coordinator::PlacementShape shape_;
  coordinator::LoadMeter loads_;
};

}  // namespace pregate::cli
