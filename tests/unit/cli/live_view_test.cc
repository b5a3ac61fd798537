#include "cli/live_view.h"

#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

const TimePoint kNow{seconds(100)};

TEST(LiveView, DescribesFiguresRounded) {
  const monitoring::ServingFigures figures{
      .running = 2,
      .waiting = 3,
      .waiting_for_experts = 1,
      .cache_usage = 1.0 / 3,
      .prompt_tokens = 10,
      .generated_tokens = 5,
      .first_token = {.seconds = 0.5, .count = 2},
      .inter_token = {.seconds = 0.12345678, .count = 3},
  };
  EXPECT_EQ(describe_figures(figures),
            json::parse(R"({"requests": {"running": 2, "waiting": 3, "waiting_for_experts": 1},
                            "kv_cache_used": 0.3333,
                            "tokens": {"prompt": 10, "generated": 5},
                            "first_token": {"seconds": 0.5, "count": 2},
                            "inter_token": {"seconds": 0.123457, "count": 3}})"));
}

TEST(LiveView, DescribesWorkersWithoutWhereTheyAre) {
  coordinator::ClusterInfo info{.num_experts = 8, .num_missing = 4, .num_unanswered = 1};
  coordinator::WorkerInfo worker;
  worker.member.name = "worker-1";
  worker.member.host = "private";
  worker.member.pid = 77;
  worker.member.state = coordinator::WorkerState::kDead;
  worker.member.reason = "has left";
  worker.member.since = kNow - milliseconds(1500);
  worker.num_held = 3;
  worker.num_assigned = 4;
  worker.queue_depth = 2;
  info.workers.push_back(worker);
  EXPECT_EQ(describe_members(info, kNow),
            json::parse(R"({"experts": 8, "missing_experts": 4, "unanswered_experts": 1,
                            "workers": [{"name": "worker-1", "state": "dead", "state_seconds": 1.5,
                                         "reason": "has left", "experts": 3, "experts_assigned": 4,
                                         "queue_depth": 2}]})"));
}

TEST(LiveView, RowsFadeAndAreWholeNumbers) {
  RecentRows rows({.layers = {LayerIdx(1), LayerIdx(3)}, .num_experts = 3});
  rows.add(LayerIdx(1), std::vector<uint64_t>{8, 0, 1});
  rows.add(LayerIdx(3), std::vector<uint64_t>{0, 5, 0});
  EXPECT_EQ(rows.describe(kNow), json::parse(R"({"half_life_seconds": 3.0, "layers": [1, 3],
                                                 "rows": [[8, 0, 1], [0, 5, 0]]})"));
  rows.add(LayerIdx(3), std::vector<uint64_t>{1, 0, 0});
  EXPECT_EQ(rows.describe(kNow + seconds(6)).at("rows"), json::parse("[[2, 0, 0], [1, 1, 0]]"));
}

TEST(LiveView, TheLargestModelsRowsFitIntoOneAnswer) {
  coordinator::PlacementShape shape{.layers = {}, .num_experts = 256};
  for (uint32_t layer = 0; layer < 61; ++layer) shape.layers.push_back(LayerIdx(layer));
  RecentRows rows(shape);
  for (const LayerIdx layer : shape.layers) {
    rows.add(layer, std::vector<uint64_t>(shape.num_experts, 12345));
  }
  EXPECT_LT(json::serialize(rows.describe(kNow)).size(), size_t{128} << 10);
}

TEST(LiveView, AModelWithoutExpertsHasNoRows) {
  RecentRows rows(coordinator::PlacementShape{});
  EXPECT_EQ(rows.describe(kNow).at("rows"), json::array());
}

}  // namespace
}  // namespace pregate::cli
