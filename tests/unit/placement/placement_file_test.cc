#include "coordinator/placement/placement_file.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PlacementFile : public ::testing::Test {
 protected:
  ~PlacementFile() override { std::filesystem::remove(path_); }

  Result<Placement> read(const std::string& text) {
    std::ofstream(path_) << text;
    return read_placement(path_, 3, shape_, workers_);
  }
  void expect_error(const std::string& text, const std::string& message) {
    const auto placement = read(text);
    ASSERT_FALSE(placement) << text;
    EXPECT_EQ(placement.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(placement.error().message, HasSubstr("placement_test.json: " + message));
  }

  const std::filesystem::path path_ =
      std::filesystem::path(::testing::TempDir()) /
      std::string(::testing::UnitTest::GetInstance()->current_test_info()->name())
          .append("_placement_test.json");
  const PlacementShape shape_{{LayerIdx(0), LayerIdx(2)}, 8};
  const WorkerKeys workers_ = numbered_workers({WorkerId(1), WorkerId(2)});
};

TEST_F(PlacementFile, ReadsRangesNumbersAndReplicas) {
  const auto placement = read(R"({"format": 1, "layers": [
      {"layers": [0], "experts": {"1": ["0-5"], "2": [6, 7, "2"]}},
      {"layers": [2], "experts": {"2": ["0-7"]}}]})");
  ASSERT_TRUE(placement) << placement.error().message;
  EXPECT_EQ(placement->version(), 3u);
  EXPECT_THAT(placement->workers(LayerIdx(0), ExpertId(2)), ElementsAre(WorkerId(1), WorkerId(2)));
  EXPECT_THAT(placement->workers(LayerIdx(0), ExpertId(7)), ElementsAre(WorkerId(2)));
  EXPECT_THAT(placement->workers(LayerIdx(2), ExpertId(0)), ElementsAre(WorkerId(2)));
}

TEST_F(PlacementFile, AllMeansEveryMoeLayer) {
  const auto placement = read(
      R"({"format": 1, "layers": [{"layers": "all", "experts": {"1": ["0-3"], "2": ["4-7"]}}]})");
  ASSERT_TRUE(placement) << placement.error().message;
  EXPECT_EQ(placement->assigned_to(WorkerId(2)).size(), 2u);
}

TEST_F(PlacementFile, ErrorsNameFileAndField) {
  const auto with = [](const std::string& experts) {
    return R"({"format": 1, "layers": [{"layers": "all", "experts": )" + experts + "}]}";
  };
  expect_error("{", "not JSON");
  expect_error("[]", "the file: expected an object");
  expect_error(R"({"format": 2, "layers": []})", "format: expected 1");
  expect_error(R"({"format": 1})", "layers: expected a list");
  expect_error(R"({"format": 1, "layer": []})", "layer: unknown field");
  expect_error(R"({"format": 1, "layers": [3]})", "layers[0]: expected an object");
  expect_error(R"({"format": 1, "layers": [{"layers": [1], "experts": {}}]})",
               "layers[0].layers: 1 is no MoE layer");
  expect_error(R"({"format": 1, "layers": [{"layers": [0, 0], "experts": {}}]})",
               "layers[0].layers: duplicate: layer 0");
  expect_error(with(R"({"3": ["0-7"]})"), "layers[0].experts.3: unknown worker, expected one of 1");
  expect_error(with(R"({"1": "0-7"})"), "layers[0].experts.1: expected a list");
  expect_error(with(R"({"1": ["0-8"]})"), "layers[0].experts.1[0]: expert 8 is out of range");
  expect_error(with(R"({"1": ["5-2"]})"), "layers[0].experts.1[0]: expected a number");
  expect_error(with(R"({"1": [-1]})"), "layers[0].experts.1[0]: expected a number");
  expect_error(with(R"({"1": [true]})"), "layers[0].experts.1[0]: expected a number");
  expect_error(with(R"({"1": ["0-7", 3]})"), "layers[0].experts.1[1]: duplicate: expert 3");
  expect_error(with(R"({"1": ["0-6"]})"), "layers: missing: expert 7 of layer 0");
}

TEST_F(PlacementFile, AFileThatDoesNotExistIsNotFound) {
  const auto placement = read_placement("/no/such.json", 1, shape_, workers_);
  EXPECT_EQ(placement.error().code, ErrorCode::kNotFound);
}

TEST_F(PlacementFile, WorkersMayBeNamed) {
  constexpr const char* kText =
      R"({"format": 1, "layers": [{"layers": "all", "experts": {"worker-1": ["0-7"]}}]})";
  const auto numbered = parse_placement(kText, 1, shape_, workers_);
  ASSERT_TRUE(numbered) << numbered.error().message;
  EXPECT_THAT(numbered->workers(LayerIdx(0), ExpertId(3)), ElementsAre(WorkerId(1)));
  const auto named = parse_placement(kText, 1, shape_, named_workers({{"worker-1", WorkerId(9)}}));
  ASSERT_TRUE(named) << named.error().message;
  EXPECT_THAT(named->workers(LayerIdx(0), ExpertId(3)), ElementsAre(WorkerId(9)));
  const auto unknown = parse_placement(kText, 1, shape_, named_workers({{"a", WorkerId(1)}}));
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().message,
            "layers[0].experts.worker-1: unknown worker, expected one of a");
}

TEST_F(PlacementFile, FutureWorkersAreAnyUpToALimit) {
  const WorkerKeys keys = future_workers(64);
  EXPECT_EQ(keys.find("gpu-64"), WorkerId(64));
  EXPECT_EQ(keys.find("7"), WorkerId(7));
  for (const char* wrong : {"gpu-65", "0", "gpu", "", "7x"})
    EXPECT_FALSE(keys.find(wrong)) << wrong;
}

TEST_F(PlacementFile, WhatIsWrittenReadsBack) {
  Placement placement(1, shape_);
  for (const LayerIdx layer : shape_.layers) {
    for (uint32_t expert = 0; expert < shape_.num_experts; ++expert) {
      placement.add_replica(layer, ExpertId(expert), WorkerId(expert < 3 ? 1 : 2));
    }
    placement.add_replica(layer, ExpertId(7), WorkerId(1));
  }
  const std::map<WorkerId, std::string> names{{WorkerId(1), "a"}, {WorkerId(2), "b"}};
  EXPECT_EQ(boost::json::serialize(write_placement(placement, shape_, names)),
            R"({"format":1,"layers":[{"layers":"all","experts":{"a":["0-2",7],"b":["3-7"]}}]})");
  placement.add_replica(shape_.layers.front(), ExpertId(0), WorkerId(2));
  const std::string text = boost::json::serialize(write_placement(placement, shape_, names));
  const auto again =
      parse_placement(text, 1, shape_, named_workers({{"a", WorkerId(1)}, {"b", WorkerId(2)}}));
  ASSERT_TRUE(again) << again.error().message;
  for (const WorkerId worker : {WorkerId(1), WorkerId(2)}) {
    EXPECT_EQ(again->assigned_to(worker), placement.assigned_to(worker));
  }
}

}  // namespace
}  // namespace pregate::coordinator
