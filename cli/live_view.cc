#include "cli/live_view.h"

#include <cmath>
#include <utility>

namespace pregate::cli {
namespace {

namespace json = boost::json;

/// Rows of so long ago count half.
constexpr Duration kHalfLife = std::chrono::seconds(3);

double rounded_seconds(Duration duration) { return std::round(to_seconds(duration) * 1e3) / 1e3; }

json::object describe(const monitoring::Observed& observed) {
  return {{"seconds", std::round(observed.seconds * 1e6) / 1e6}, {"count", observed.count}};
}

json::object describe(const coordinator::WorkerInfo& worker, TimePoint now) {
  const coordinator::Member& member = worker.member;
  return {{"name", member.name},
          {"state", std::string(coordinator::to_string(member.state))},
          {"state_seconds", rounded_seconds(now - member.since)},
          {"reason", member.reason.empty() ? json::value(nullptr) : json::value(member.reason)},
          {"experts", worker.num_held},
          {"experts_assigned", worker.num_assigned},
          {"queue_depth", worker.queue_depth}};
}

}  // namespace

json::object describe_figures(const monitoring::ServingFigures& figures) {
  return {{"requests",
           {{"running", figures.running},
            {"waiting", figures.waiting},
            {"waiting_for_experts", figures.waiting_for_experts}}},
          {"kv_cache_used", std::round(figures.cache_usage * 1e4) / 1e4},
          {"tokens", {{"prompt", figures.prompt_tokens}, {"generated", figures.generated_tokens}}},
          {"first_token", describe(figures.first_token)},
          {"inter_token", describe(figures.inter_token)}};
}

json::object describe_members(const coordinator::ClusterInfo& info, TimePoint now) {
  json::array workers;
  for (const coordinator::WorkerInfo& worker : info.workers) {
    workers.push_back(describe(worker, now));
  }
  return {{"experts", info.num_experts},
          {"missing_experts", info.num_missing},
          {"unanswered_experts", info.num_unanswered},
          {"workers", std::move(workers)}};
}

RecentRows::RecentRows(coordinator::PlacementShape shape)
    : shape_(std::move(shape)), loads_(shape_, kHalfLife) {}

void RecentRows::add(LayerIdx layer, std::span<const uint64_t> rows) {
  for (uint32_t expert = 0; expert < rows.size(); ++expert) {
    if (rows[expert] > 0) loads_.add(layer, ExpertId(expert), rows[expert]);
  }
}

json::object RecentRows::describe(TimePoint now) {
  json::array layers, rows;
  for (const LayerIdx layer : shape_.layers) layers.push_back(layer.value);
  for (const std::vector<double>& loads : loads_.read(now)) {
    json::array& of_layer = rows.emplace_back(json::array()).get_array();
    of_layer.reserve(loads.size());
    for (const double load : loads) of_layer.push_back(std::llround(load));
  }
  return {{"half_life_seconds", to_seconds(kHalfLife)},
          {"layers", std::move(layers)},
          {"rows", std::move(rows)}};
}

}  // namespace pregate::cli
