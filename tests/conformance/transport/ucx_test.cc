// The scenarios over UCX, and what is special to a transport whose peers come and go.
#include <csignal>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/conformance/transport/scenarios.h"
#include "tests/conformance/transport/ucx_peers.h"

namespace pregate::transport {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr PeerId kListener{0};
constexpr auto kMillisecond = std::chrono::milliseconds(1);

UcxOptions listening(const std::string& address = "127.0.0.1:0") { return {.listen = address}; }

UcxOptions dialling(const std::string& address) {
  return {.self = PeerId(1), .addresses = {{kListener, address}}};
}

class UcxConformance : public ::testing::TestWithParam<Scenario> {};

/// Each node in a process of its own; `mode`: of ucx_node.
void expect_holds(const Scenario& scenario, const std::string& mode) {
  std::string folder = ::testing::TempDir() + "/pregate_ucx_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  uint32_t num_ok = 0;
  {
    std::vector<std::unique_ptr<Process>> nodes;
    for (uint32_t id = 0; id < kNumNodes; ++id) {
      nodes.push_back(std::make_unique<Process>(
          std::vector<std::string>{mode, scenario.name, std::to_string(id), folder}));
    }
    for (const auto& node : nodes) num_ok += node->wait() == 0;
  }
  EXPECT_EQ(num_ok, scenario.num_survivors);
  std::filesystem::remove_all(folder);
}

TEST_P(UcxConformance, Holds) { expect_holds(GetParam(), "scenario"); }

TEST_P(UcxConformance, HoldsForNodesThatDrive) { expect_holds(GetParam(), "driven"); }

TEST_P(UcxConformance, HoldsWithNccl) { expect_holds(GetParam(), "nccl"); }

INSTANTIATE_TEST_SUITE_P(Ucx, UcxConformance, ::testing::ValuesIn(scenarios()),
                         [](const auto& parameter) { return parameter.param.name; });

TEST(UcxTransport, APeerThatIsKilledAndStartedAgainIsConnectedTo) {
  std::string address;
  {
    const Endpoint port(listening());
    address = port.address();
  }
  Endpoint worker(dialling(address));
  for (int round = 0; round < 3; ++round) {
    Process coordinator({"listen", address});
    worker.ucx().connect(kListener);
    // Until it listens, dialling fails.
    while (worker.ucx().send(kListener, {}, {}, {}).has_value() == false) {
      std::this_thread::sleep_for(10 * kMillisecond);
      worker.ucx().connect(kListener);
    }
    EXPECT_EQ(worker.next_up(), kListener);
    EXPECT_EQ(worker.next_payload().size(), 0u);
    EXPECT_TRUE(worker.echoes(kListener, 2 * kMiB));
    coordinator.kill();
    Endpoint::Down down = worker.next_down();
    while (down.error.message.find("Connection refused") != std::string::npos) {
      down = worker.next_down();  // from before it listened
    }
    EXPECT_EQ(down.error.code, ErrorCode::kUnavailable) << down.error.message;
    EXPECT_FALSE(worker.send(kListener, 1));
  }
}

TEST(UcxTransport, AFrozenPeerIsDisconnectedAndComesBack) {
  Endpoint coordinator(listening());
  Process other({"dial", coordinator.address()});
  const PeerId undisturbed = coordinator.next_up();
  Process worker({"dial", coordinator.address()});
  const PeerId frozen = coordinator.next_up();
  EXPECT_TRUE(coordinator.echoes(frozen, 8 * kMiB));
  worker.signal(SIGSTOP);
  ASSERT_TRUE(coordinator.send(frozen, 8 * kMiB));
  ASSERT_TRUE(coordinator.send(frozen, 100));
  EXPECT_TRUE(coordinator.echoes(undisturbed, 8 * kMiB));
  coordinator.ucx().disconnect(frozen);
  EXPECT_TRUE(coordinator.wait_all_completed());
  EXPECT_EQ(coordinator.num_failed(), 2u);
  EXPECT_FALSE(coordinator.send(frozen, 1));
  EXPECT_TRUE(coordinator.echoes(undisturbed, 8 * kMiB));
  worker.signal(SIGCONT);
  const PeerId back = coordinator.next_up();
  EXPECT_NE(back, frozen);
  EXPECT_TRUE(coordinator.echoes(back, 8 * kMiB));
}

TEST(UcxTransport, APeerDiesWithARendezvousInFlightEitherWay) {
  Endpoint coordinator(listening());
  for (int round = 0; round < 20; ++round) {
    Process worker({"dial", coordinator.address()});
    const PeerId peer = coordinator.next_up();
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(coordinator.send(peer, 8 * kMiB));
    ASSERT_TRUE(coordinator.send(peer, 100));
    std::this_thread::sleep_for(round * kMillisecond);
    worker.kill();
    EXPECT_EQ(coordinator.next_down().peer, peer);
    EXPECT_TRUE(coordinator.wait_all_completed());
    EXPECT_FALSE(coordinator.send(peer, 1));
  }
}

TEST(UcxTransport, EitherEndDisconnectsInTheMiddleOfTraffic) {
  Endpoint coordinator(listening(), /*echo=*/true);
  Endpoint worker(dialling(coordinator.address()));
  for (int round = 0; round < 40; ++round) {
    worker.ucx().connect(kListener);
    EXPECT_EQ(worker.next_up(), kListener);
    const PeerId peer = coordinator.next_up();
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(worker.send(kListener, (i + 1) * 3 * kMiB));
    std::this_thread::sleep_for(round % 10 * kMillisecond);
    if (round % 2 == 0) {
      worker.ucx().disconnect(kListener);
      EXPECT_EQ(coordinator.next_down().peer, peer);
    } else {
      coordinator.ucx().disconnect(peer);
      EXPECT_EQ(worker.next_down().peer, kListener);
    }
    EXPECT_TRUE(worker.wait_all_completed());
    EXPECT_FALSE(worker.send(kListener, 1));
  }
}

TEST(UcxTransport, WhatWasSentBeforeStopArrives) {
  Endpoint coordinator(listening());
  for (int round = 0; round < 10; ++round) {
    Endpoint worker(dialling(coordinator.address()));
    worker.ucx().connect(kListener);
    worker.next_up();
    coordinator.next_up();
    constexpr size_t kSizes[] = {8 * kMiB, 1, 3 * kMiB, 50'000, 0};
    for (const size_t size : kSizes) ASSERT_TRUE(worker.send(kListener, size));
    worker.stop(std::chrono::seconds(10));
    EXPECT_TRUE(worker.wait_all_completed());
    for (const size_t size : kSizes) EXPECT_EQ(coordinator.next_payload().size(), size);
    EXPECT_NE(coordinator.next_down().error.message.find("stopped"), std::string::npos);
  }
}

TEST(UcxTransport, StopWaitsForAFrozenPeerNoLongerThanItsLinger) {
  Endpoint coordinator(listening());
  Process worker({"dial", coordinator.address()});
  const PeerId peer = coordinator.next_up();
  worker.signal(SIGSTOP);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(coordinator.send(peer, 8 * kMiB));
  const TimePoint began = system_clock().now();
  coordinator.stop(300 * kMillisecond);
  EXPECT_LT(to_seconds(system_clock().now() - began), 20.0);
  EXPECT_TRUE(coordinator.wait_all_completed());
}

TEST(UcxTransport, DiallingEndsWithinTheTimeout) {
  Endpoint silent(listening());
  // Its door opens only when it has started: here nobody answers, and the kernel accepts.
  UcxOptions options = dialling("127.0.0.1:1");
  options.addresses[PeerId(2)] = make_ucx_transport(listening()).value()->listen_address();
  const auto mute = make_ucx_transport(listening()).value();
  options.addresses[PeerId(3)] = mute->listen_address();
  options.addresses[PeerId(4)] = "no-such-host.invalid:7000";
  options.connect_timeout = std::chrono::seconds(20);  // an error of another kind comes before
  Endpoint patient(options);
  options.connect_timeout = 300 * kMillisecond;
  Endpoint hasty(options);
  const auto error_of = [](Endpoint& worker, uint32_t peer) {
    worker.ucx().connect(PeerId(peer));
    const auto down = worker.next_down();
    EXPECT_EQ(down.peer, PeerId(peer));
    return down.error;
  };
  EXPECT_EQ(error_of(patient, 0).code, ErrorCode::kUnavailable);
  EXPECT_EQ(error_of(patient, 2).code, ErrorCode::kUnavailable);
  EXPECT_EQ(error_of(hasty, 3).code, ErrorCode::kDeadlineExceeded);
  EXPECT_NE(error_of(patient, 4).message.find("no-such-host"), std::string::npos);
  EXPECT_NE(error_of(patient, 9).message.find("no address"), std::string::npos);
  EXPECT_EQ(error_of(patient, 0).code, ErrorCode::kUnavailable);
}

TEST(UcxTransport, AnotherVersionIsRefusedAtBothEnds) {
  Endpoint coordinator(listening());
  Endpoint worker(dialling(coordinator.address()), /*echo=*/false, /*version=*/2);
  worker.ucx().connect(kListener);
  EXPECT_NE(worker.next_down().error.message.find("version 1, expected 2"), std::string::npos);
  EXPECT_NE(coordinator.next_down().error.message.find("version 2, expected 1"), std::string::npos);
  EXPECT_EQ(coordinator.ucx().num_refused(), 1u);
}

TEST(UcxTransport, AddressesThatCannotBeUsedAreNamed) {
  for (const char* address : {"127.0.0.1", ":1", "192.0.2.1:0", "127.0.0.1:x"}) {
    const auto made = make_ucx_transport(listening(address));
    ASSERT_FALSE(made) << address;
    EXPECT_NE(made.error().message.find(address), std::string::npos) << made.error().message;
  }
  Endpoint taken(listening());
  EXPECT_FALSE(make_ucx_transport(listening(taken.address())));
}

TEST(UcxTransport, ANameThatNobodyKnowsYetIsNotFound) {
  const auto made = make_ucx_transport(dialling("no-such-host.invalid:7000"));
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kNotFound);
  EXPECT_NE(made.error().message.find("no-such-host.invalid:7000"), std::string::npos);
}

TEST(UcxTransport, ListensOnEveryAddressToo) {
  Endpoint coordinator(listening("0.0.0.0:0"), /*echo=*/true);
  const std::string address = coordinator.address();
  Endpoint worker(dialling("127.0.0.1" + address.substr(address.rfind(':'))));
  worker.ucx().connect(kListener);
  EXPECT_EQ(worker.next_up(), kListener);
  EXPECT_TRUE(worker.echoes(kListener, kMiB));
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(UcxTransport, TakesNoProcessorTimeWhenIdle) {
  Endpoint coordinator(listening(), /*echo=*/true);
  Endpoint worker(dialling(coordinator.address()));
  worker.ucx().connect(kListener);
  worker.next_up();
  EXPECT_TRUE(worker.echoes(kListener, 8 * kMiB));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::seconds(2));
  const double used = cpu_seconds() - before;
  RecordProperty("cpu_seconds_in_two", std::to_string(used));
  EXPECT_LT(used, 0.04);
}

}  // namespace
}  // namespace pregate::transport
