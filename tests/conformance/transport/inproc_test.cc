#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "tests/conformance/transport/scenarios.h"
#include "transport/inproc/hub.h"

namespace pregate::transport {
namespace {

class InprocConformance : public ::testing::TestWithParam<Scenario> {};

TEST_P(InprocConformance, Holds) {
  const Scenario& scenario = GetParam();
  InprocHub hub(scenario.max_in_flight_bytes);
  std::vector<std::unique_ptr<Node>> nodes;
  for (uint32_t id = 0; id < kNumNodes; ++id) {
    nodes.push_back(
        std::make_unique<Node>(hub.attach(PeerId(id)), [&hub, id] { hub.cut(PeerId(id)); }));
  }
  for (const Status& result : run_all(scenario, nodes)) {
    EXPECT_TRUE(result.has_value()) << result.error().message;
  }
}

INSTANTIATE_TEST_SUITE_P(Inproc, InprocConformance, ::testing::ValuesIn(scenarios()),
                         [](const auto& parameter) { return parameter.param.name; });

/// What only a transport that notices can show.
TEST(InprocHub, TellsTheOthersWhenOneStops) {
  InprocHub hub;
  Node a(hub.attach(PeerId(0)), [] {});
  auto b = std::make_unique<Node>(hub.attach(PeerId(1)), [] {});
  a.start();
  b->start();
  a.transport().connect(PeerId(1));
  ASSERT_TRUE(a.wait_up(PeerId(1)));
  b.reset();
  ASSERT_TRUE(a.wait_down(PeerId(1)));
  EXPECT_FALSE(a.send(PeerId(1), {}, {}));
}

TEST(InprocHub, ANewIncarnationIsAnotherPeer) {
  InprocHub hub;
  std::atomic<int> ups{0}, downs{0};
  std::atomic<uint64_t> last{0};
  const auto a = hub.attach(PeerId(0));
  Events events;
  events.peer_up = [&](PeerId, const Hello& hello) {
    last = hello.incarnation;
    ++ups;
  };
  events.peer_down = [&](PeerId, const Error&) { ++downs; };
  a->start({1, 10, {}}, events);
  for (uint64_t incarnation = 1; incarnation <= 3; ++incarnation) {
    auto b = hub.attach(PeerId(1));
    b->start({1, incarnation, {}}, {});
    b->connect(PeerId(0));
    while (last != incarnation) std::this_thread::yield();
    b->stop({});
  }
  a->stop({});
  EXPECT_EQ(ups, 3);
  EXPECT_EQ(downs, 3);
}

}  // namespace
}  // namespace pregate::transport
