#include "coordinator/placement/load_meter.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;

const PlacementShape kShape{{LayerIdx(1), LayerIdx(3)}, 2};
const TimePoint kStart{seconds(100)};

TEST(LoadMeter, CountsHalveWithTime) {
  LoadMeter meter(kShape, seconds(60));
  meter.add(LayerIdx(1), ExpertId(1), 8);
  meter.add(LayerIdx(3), ExpertId(0), 4);
  EXPECT_THAT(meter.read(kStart), ElementsAre(ElementsAre(0, 8), ElementsAre(4, 0)));
  meter.add(LayerIdx(3), ExpertId(0), 1);
  EXPECT_THAT(meter.read(kStart + seconds(60)), ElementsAre(ElementsAre(0, 4), ElementsAre(3, 0)));
  EXPECT_THAT(meter.read(kStart + seconds(180)),
              ElementsAre(ElementsAre(0, 1), ElementsAre(0.75, 0)));
}

TEST(LoadMeter, WhatIsNotInTheShapeIsNotCounted) {
  LoadMeter meter(kShape, seconds(60));
  meter.add(LayerIdx(0), ExpertId(0), 8);
  meter.add(LayerIdx(2), ExpertId(0), 8);
  meter.add(LayerIdx(4), ExpertId(0), 8);
  meter.add(LayerIdx(1), ExpertId(2), 8);
  EXPECT_THAT(meter.read(kStart), ElementsAre(ElementsAre(0, 0), ElementsAre(0, 0)));
}

TEST(LoadMeter, NoRowIsLostBetweenThreads) {
  LoadMeter meter(kShape, seconds(1'000'000'000));
  const auto add = [&meter] {
    for (int i = 0; i < 10000; ++i) meter.add(LayerIdx(1), ExpertId(0), 1);
  };
  std::jthread first(add), second(add);
  for (int i = 0; i < 100; ++i) meter.read(kStart);
  first.join();
  second.join();
  EXPECT_DOUBLE_EQ(meter.read(kStart)[0][0], 20000);
}

}  // namespace
}  // namespace pregate::coordinator
