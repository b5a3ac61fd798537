// The code of the NCCL module, with a stand-in for libnccl and the CUDA runtime.
#include <algorithm>
#include <thread>

#include <gmock/gmock.h>

#include "tests/conformance/transport/fake_nccl.h"
#include "tests/conformance/transport/nccl_nodes.h"
#include "transport/nccl/cuda/device_lanes.h"
#include "transport/payload.h"

namespace pregate::transport {
namespace {

using ::testing::HasSubstr;

constexpr auto kLong = std::chrono::seconds(60);

struct Case {
  Scenario scenario;
  uint32_t failures = 0;  ///< In a thousand.
  bool has_tails = false;
};

class NcclModuleConformance : public ::testing::TestWithParam<Case> {};

TEST_P(NcclModuleConformance, Holds) {
  const Case& param = GetParam();
  set_fake_nccl({});
  const auto lanes = open_device_lanes(0).value();  // its check of itself is not to fail
  set_fake_nccl({.failures = param.failures});
  const auto memory = param.has_tails ? fake_device_memory() : nullptr;
  expect_holds_over_nccl(
      param.scenario, [&](uint32_t) { return lanes; }, param.failures > 0,
      [&](uint32_t) { return memory; });
  EXPECT_EQ(num_fake_leaks(), 0U);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool has_tails : {false, true}) {
    for (const uint32_t failures : {0, 50}) {
      for (const Scenario& scenario : scenarios()) all.push_back({scenario, failures, has_tails});
    }
  }
  return all;
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  const Case& param = info.param;
  return std::string(param.failures > 0 ? "breaking_" : "working_") +
         (param.has_tails ? "tails_" : "") + param.scenario.name;
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

/// Bytes on the host or in device memory.
class Place {
 public:
  Place(size_t bytes, std::shared_ptr<DeviceMemory> memory)
      : size_(bytes),
        memory_(std::move(memory)),
        data_(memory_ ? memory_->allocate(bytes).value() : allocate_payload(bytes)) {}
  std::span<std::byte> bytes() const { return {data_.get(), size_}; }
  DeviceMemory* memory() const { return memory_.get(); }
  void write(std::span<const std::byte> from) const {
    if (memory_ == nullptr) return void(std::ranges::copy(from, data_.get()));
    ASSERT_TRUE(memory_->write(data_.get(), from));
  }
  std::vector<std::byte> read() const {
    std::vector<std::byte> to(data_.get(), data_.get() + size_);
    const Status read = memory_ == nullptr ? Status() : memory_->read(to, data_.get());
    EXPECT_TRUE(read.has_value());
    return to;
  }

 private:
  const size_t size_;
  const std::shared_ptr<DeviceMemory> memory_;
  const std::shared_ptr<std::byte[]> data_;
};

struct Ends {
  bool sender_has_memory = false, receiver_has_memory = false;
};

class NcclModuleLane : public ::testing::TestWithParam<Ends> {};

/// On a device that does everything late, so that what is not waited for shows.
TEST_P(NcclModuleLane, MovesMoreThanItBeginsAtOnce) {
  set_fake_nccl({.delay = std::chrono::milliseconds(2)});
  const auto lanes = open_device_lanes(0).value();
  const LaneKey key = lanes->make_key().value();
  std::vector<std::byte> bytes((size_t{41} << 20) + 5);
  const Place from(bytes.size(), GetParam().sender_has_memory ? fake_device_memory() : nullptr);
  const Place to(bytes.size(), GetParam().receiver_has_memory ? fake_device_memory() : nullptr);
  const auto sender = lanes->make_lane(), receiver = lanes->make_lane();
  Status came;
  std::thread thread([&] {
    came = receiver->join(key, LaneEnd::kReceiver, TimePoint::max());
    for (int i = 0; i < 2 && came; ++i) came = receiver->receive({to.bytes(), to.memory()}, kLong);
  });
  Status went = sender->join(key, LaneEnd::kSender, TimePoint::max());
  for (size_t time = 0; time < 2 && went; ++time) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i * 31 + (i >> 20) + time);
    from.write(bytes);
    went = sender->send({from.bytes(), from.memory()}, kLong);
  }
  thread.join();
  ASSERT_TRUE(went && came);
  EXPECT_TRUE(bytes == to.read());
}

INSTANTIATE_TEST_SUITE_P(Nccl, NcclModuleLane,
                         ::testing::Values(Ends{false, false}, Ends{false, true}, Ends{true, false},
                                           Ends{true, true}));

/// Once NCCL waits on a device for the other end, memory of that device may have to wait too.
TEST(NcclModule, ALaneTakesWhatItNeedsBeforeAnythingIsMoved) {
  set_fake_nccl({});
  const auto lanes = open_device_lanes(0).value();
  const LaneKey key = lanes->make_key().value();
  const Place from(1000, nullptr), to(1000, nullptr);
  const auto sender = lanes->make_lane(), receiver = lanes->make_lane();
  std::thread joining(
      [&] { EXPECT_TRUE(receiver->join(key, LaneEnd::kReceiver, TimePoint::max())); });
  EXPECT_TRUE(sender->join(key, LaneEnd::kSender, TimePoint::max()));
  joining.join();
  const auto taken = num_fake_leaks();
  std::thread receiving([&] { EXPECT_TRUE(receiver->receive({to.bytes(), to.memory()}, kLong)); });
  EXPECT_TRUE(sender->send({from.bytes(), from.memory()}, kLong));
  receiving.join();
  EXPECT_EQ(num_fake_leaks(), taken);
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
