// The code of the NCCL module, with a stand-in for libnccl and the CUDA runtime.
#include <thread>

#include <gmock/gmock.h>

#include "tests/conformance/transport/fake_nccl.h"
#include "tests/conformance/transport/nccl_nodes.h"
#include "transport/nccl/cuda/device_lanes.h"

namespace pregate::transport {
namespace {

using ::testing::HasSubstr;

constexpr auto kLong = std::chrono::seconds(60);

struct Case {
  Scenario scenario;
  uint32_t failures = 0;  ///< In a thousand.
};

class NcclModuleConformance : public ::testing::TestWithParam<Case> {};

TEST_P(NcclModuleConformance, Holds) {
  const auto& [scenario, failures] = GetParam();
  set_fake_nccl({});
  const auto lanes = open_device_lanes(0).value();  // its check of itself is not to fail
  set_fake_nccl({.failures = failures});
  expect_holds_over_nccl(
      scenario, [&](uint32_t) { return lanes; }, failures > 0);
  EXPECT_EQ(num_fake_leaks(), 0U);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const uint32_t failures : {0, 50}) {
    for (const Scenario& scenario : scenarios()) all.push_back({scenario, failures});
  }
  return all;
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return (info.param.failures > 0 ? "breaking_" : "working_") + info.param.scenario.name;
}

INSTANTIATE_TEST_SUITE_P(Nccl, NcclModuleConformance, ::testing::ValuesIn(cases()), name_of);

Error error_of(const FakeNccl& fake, size_t device = 0) {
  set_fake_nccl(fake);
  const auto lanes = open_device_lanes(device);
  EXPECT_EQ(num_fake_leaks(), 0U);
  return lanes ? Error{} : lanes.error();
}

TEST(NcclModule, SaysWhatIsMissing) {
  EXPECT_EQ(error_of({.has_driver = false}).code, ErrorCode::kUnimplemented);
  EXPECT_THAT(error_of({.has_driver = false}).message, HasSubstr("no CUDA driver that will do"));
  EXPECT_EQ(error_of({.num_devices = 2}, 2).code, ErrorCode::kNotFound);
  EXPECT_EQ(error_of({.num_devices = 2}, 2).message, "this machine has 2 CUDA devices");
}

TEST(NcclModule, ChecksItselfBeforeItIsUsed) {
  EXPECT_EQ(error_of({.is_corrupt = true}).message, "NCCL does not bring the device its own bytes");
  EXPECT_EQ(error_of({.failures = 1000}).message,
            "NCCL, sending to itself: unhandled system error: the network was broken for the test");
  EXPECT_EQ(error_of({}).message, "");
}

TEST(NcclModule, TellsItsVersion) { EXPECT_EQ(nccl_version(), "2.28.9"); }

/// On a device that does everything late, so that what is not waited for shows.
TEST(NcclModule, MovesMoreThanItsSlotsHold) {
  set_fake_nccl({.delay = std::chrono::milliseconds(2)});
  const auto lanes = open_device_lanes(0).value();
  const LaneKey key = lanes->make_key().value();
  std::vector<std::byte> sent(size_t{25} << 20), received(sent.size());
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = std::byte((i * 31 + (i >> 20)) & 0xFF);
  const auto to = lanes->make_lane(), from = lanes->make_lane();
  Status came;
  std::thread receiver([&] {
    came = from->join(key, LaneEnd::kReceiver, TimePoint::max());
    for (int i = 0; i < 2 && came; ++i) came = from->receive(received, kLong);
  });
  ASSERT_TRUE(to->join(key, LaneEnd::kSender, TimePoint::max()));
  ASSERT_TRUE(to->send(std::vector<std::byte>(sent.size()), kLong));
  ASSERT_TRUE(to->send(sent, kLong));
  receiver.join();
  ASSERT_TRUE(came);
  EXPECT_TRUE(sent == received);
}

/// Until the other end joins, which never comes.
TEST(NcclModule, WaitsNoLongerThanItIsTold) {
  set_fake_nccl({});
  const auto lanes = open_device_lanes(0).value();
  const LaneKey key = lanes->make_key().value();
  const auto until = TimePoint::clock::now() + std::chrono::milliseconds(20);
  const Status late = lanes->make_lane()->join(key, LaneEnd::kSender, until);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadlineExceeded);
  const auto lane = lanes->make_lane();
  lane->cancel();
  const Status cancelled = lane->join(key, LaneEnd::kSender, TimePoint::max());
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace pregate::transport
