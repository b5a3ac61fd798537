#include "tests/conformance/transport/scenarios.h"

#include <cstring>
#include <thread>

#include "base/random.h"

namespace pregate::transport {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

Status require(bool condition, const char* what) {
  if (condition) return {};
  return fail(ErrorCode::kInternal, "does not hold: {}", what);
}
#define REQUIRE(condition) PREGATE_TRY(require(condition, #condition))

/// Header: the message's number. Payload: bytes that depend on it and on the place.
std::vector<std::byte> header_of(uint64_t number) {
  std::vector<std::byte> header(sizeof(number));
  std::memcpy(header.data(), &number, sizeof(number));
  return header;
}

uint64_t number_of(std::span<const std::byte> header) {
  uint64_t number = 0;
  std::memcpy(&number, header.data(), std::min(sizeof(number), header.size()));
  return number;
}

Payload make_payload(uint64_t number, size_t size) {
  if (size == 0) return {};
  const auto data = allocate_payload(size);
  for (size_t i = 0; i < size; ++i) data[i] = std::byte((i * 31 + number * 7 + i / 4096) & 0xFF);
  return {data, size};
}

bool same_bytes(const Payload& a, const Payload& b) {
  return a.size() == b.size() &&
         (a.size() == 0 || std::memcmp(a.bytes().data(), b.bytes().data(), a.size()) == 0);
}

std::vector<uint32_t> others_of(const Node& node) {
  std::vector<uint32_t> others;
  for (uint32_t id = 0; id < kNumNodes; ++id) {
    if (id != node.id()) others.push_back(id);
  }
  return others;
}

/// Node 0 sends one message of each size to node 1, which sends it back.
Status sizes(Node& node) {
  PREGATE_TRY(node.open());
  constexpr size_t kSizes[] = {0,      1,    63,       64,       65,        4095, (32 << 10), 32769,
                               100003, kMiB, kMiB + 1, 8 * kMiB, 64 * kMiB, 0,    1};
  if (node.id() == 0) {
    for (uint64_t i = 0; i < std::size(kSizes); ++i) {
      const Payload payload = make_payload(i, kSizes[i]);
      PREGATE_TRY(node.send(PeerId(1), header_of(i), payload));
      PREGATE_ASSIGN(const auto echo, node.receive());
      REQUIRE(number_of(echo.header) == i);
      REQUIRE(same_bytes(echo.payload, payload));
    }
  } else if (node.id() == 1) {
    for (size_t i = 0; i < std::size(kSizes); ++i) {
      PREGATE_ASSIGN(auto message, node.receive());
      const auto place = reinterpret_cast<uintptr_t>(message.payload.bytes().data());
      REQUIRE(message.payload.size() == 0 || place % kPayloadAlignment == 0 ||
              node.transport().name() == "inproc");
      PREGATE_TRY(node.send(message.from, message.header, std::move(message.payload)));
    }
  }
  return node.meet(others_of(node));
}

Status header_limits(Node& node) {
  PREGATE_TRY(node.open());
  const std::vector<std::byte> longest(kMaxHeaderBytes, std::byte{7});
  const std::vector<std::byte> too_long(kMaxHeaderBytes + 1);
  if (node.id() == 0) {
    const auto refused = node.send(PeerId(1), too_long, {});
    REQUIRE(!refused && refused.error().code == ErrorCode::kInvalidArgument);
    const auto nobody = node.send(PeerId(99), longest, {});
    REQUIRE(!nobody && nobody.error().code == ErrorCode::kUnavailable);
    PREGATE_TRY(node.send(PeerId(1), longest, make_payload(1, 10)));
  } else if (node.id() == 1) {
    PREGATE_ASSIGN(const auto message, node.receive());
    REQUIRE(message.header == longest);
    REQUIRE(same_bytes(message.payload, make_payload(1, 10)));
  }
  return node.meet(others_of(node));
}

/// Everyone floods everyone, small and large mixed: all arrive, whole, in order per peer.
Status flood(Node& node) {
  PREGATE_TRY(node.open());
  constexpr uint64_t kMessages = 300;
  const auto size_of = [](uint64_t number) {
    Random random(number);
    return random.next_below(8) == 0 ? random.next_below(kMiB) : random.next_below(5000);
  };
  for (uint64_t i = 0; i < kMessages; ++i) {
    for (const uint32_t other : others_of(node)) {
      const uint64_t number = i * kNumNodes + node.id();
      PREGATE_TRY(
          node.send(PeerId(other), header_of(number), make_payload(number, size_of(number))));
    }
  }
  std::vector<uint64_t> next(kNumNodes, 0);
  for (uint64_t i = 0; i < kMessages * (kNumNodes - 1); ++i) {
    PREGATE_ASSIGN(const auto message, node.receive());
    const uint64_t number = next[message.from.value]++ * kNumNodes + message.from.value;
    REQUIRE(number_of(message.header) == number);
    REQUIRE(same_bytes(message.payload, make_payload(number, size_of(number))));
  }
  PREGATE_ASSIGN(const size_t failed, node.wait_sent());
  REQUIRE(failed == 0);
  return node.meet(others_of(node));
}

/// Two nodes send 16 MiB messages to each other at the same time: neither waits for the other.
Status both_ways(Node& node) {
  PREGATE_TRY(node.open());
  if (node.id() < 2) {
    const PeerId other(1 - node.id());
    for (uint64_t i = 0; i < 4; ++i) {
      PREGATE_TRY(node.send(other, header_of(i), make_payload(i + node.id(), 16 * kMiB)));
    }
    for (uint64_t i = 0; i < 4; ++i) {
      PREGATE_ASSIGN(const auto message, node.receive());
      REQUIRE(number_of(message.header) == i);
      REQUIRE(same_bytes(message.payload, make_payload(i + other.value, 16 * kMiB)));
    }
  }
  return node.meet(others_of(node));
}

constexpr size_t kSmallBound = 4 * kMiB;

/// Node 1 stops taking messages: node 0 is refused at the bound, and goes on when node 1 does.
Status bounded(Node& node) {
  if (node.id() == 1) node.close_gate();
  PREGATE_TRY(node.open());
  // Else a message of node 0 could stop node 1 before it has greeted node 2; and node 0, when it
  // has met both, does not know yet that they have met.
  PREGATE_TRY(node.meet(others_of(node)));
  if (node.id() < 2) PREGATE_TRY(node.meet({1 - node.id()}));
  uint64_t accepted = 0;
  if (node.id() == 0) {
    Status sent;
    while (sent && accepted < 100) {
      sent = node.send(PeerId(1), header_of(accepted), make_payload(accepted, kMiB));
      if (sent) ++accepted;
    }
    REQUIRE(!sent && sent.error().code == ErrorCode::kResourceExhausted);
    // The bound is per peer: node 2 is not held up by it.
    PREGATE_TRY(node.send(PeerId(2), header_of(accepted), {}));
    PREGATE_ASSIGN(const size_t failed, node.wait_sent());
    REQUIRE(failed == 0);
    PREGATE_TRY(node.send(PeerId(1), header_of(accepted), make_payload(accepted, kMiB)));
    ++accepted;
    PREGATE_TRY(node.send(PeerId(1), header_of(~accepted), {}));
  } else if (node.id() == 1) {
    // Node 0 fills what there is room for at once, but may be late to begin.
    node.wait_at_gate();
    std::this_thread::sleep_for(std::chrono::seconds(2));
    node.open_gate();
    for (;; ++accepted) {
      PREGATE_ASSIGN(const auto message, node.receive());
      if (number_of(message.header) == ~accepted) break;
      REQUIRE(number_of(message.header) == accepted);
      REQUIRE(same_bytes(message.payload, make_payload(accepted, kMiB)));
    }
    REQUIRE(accepted > 1);
  }
  return node.meet(others_of(node));
}

/// Node 2 dies without a word. Whether or not the transport notices, disconnect() ends what is
/// pending, and the others go on.
Status peer_dies(Node& node) {
  PREGATE_TRY(node.open());
  if (node.id() == 2) {
    PREGATE_TRY(node.receive());
    node.die();
    return {};
  }
  if (node.id() == 0) {
    PREGATE_TRY(node.send(PeerId(2), header_of(0), {}));
    PREGATE_ASSIGN(const size_t failed_before, node.wait_sent());
    REQUIRE(failed_before == 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    // Either refused at once, or pending until disconnect().
    const Status sent = node.send(PeerId(2), header_of(1), make_payload(1, 8 * kMiB));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    node.transport().disconnect(PeerId(2));
    PREGATE_ASSIGN(const size_t failed, node.wait_sent());
    REQUIRE(failed == (sent ? 1u : 0u));
    const Status late = node.send(PeerId(2), header_of(2), {});
    REQUIRE(!late && late.error().code == ErrorCode::kUnavailable);
  }
  const PeerId other(1 - node.id());
  if (node.id() == 0) PREGATE_TRY(node.send(other, header_of(3), make_payload(3, 2 * kMiB)));
  PREGATE_ASSIGN(const auto message, node.receive());
  if (node.id() == 1) {
    // Not before: node 2 might be waiting for node 1 to be up.
    node.transport().disconnect(PeerId(2));
    PREGATE_TRY(node.send(other, header_of(3), make_payload(3, 2 * kMiB)));
  }
  REQUIRE(same_bytes(message.payload, make_payload(3, 2 * kMiB)));
  PREGATE_TRY(node.meet({other.value}));
  node.stop(/*peers_lost=*/true);
  return {};
}

/// Node 2 speaks another version: both ends refuse the other, nothing can be sent.
Status wrong_version(Node& node) {
  node.start(node.id() == 2 ? 2 : 1);
  if (node.id() != 0) node.transport().connect(PeerId(0));
  if (node.id() == 2) {
    PREGATE_TRY(node.wait_down(PeerId(0)));
    const Status sent = node.send(PeerId(0), header_of(0), {});
    REQUIRE(!sent && sent.error().code == ErrorCode::kUnavailable);
    return {};
  }
  if (node.id() == 1) {
    PREGATE_TRY(node.wait_up(PeerId(0)));
    return node.meet({0});
  }
  PREGATE_TRY(node.wait_up(PeerId(1)));
  PREGATE_TRY(node.wait_down(PeerId(2)));
  REQUIRE(!node.send(PeerId(2), header_of(0), {}));
  return node.meet({1});
}

/// stop() in the middle of traffic that nobody takes: it returns, and every send was completed.
Status stop_while_busy(Node& node) {
  PREGATE_TRY(node.open());
  PREGATE_TRY(node.meet(others_of(node)));
  for (uint64_t i = 0; i < 20; ++i) {
    for (const uint32_t other : others_of(node)) {
      // Another node may have stopped already.
      (void)node.send(PeerId(other), header_of(i), make_payload(i, 4 * kMiB));
    }
  }
  node.stop(/*peers_lost=*/true);
  return node.wait_sent().map([](size_t) {});
}

}  // namespace

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> all = {
      {"sizes", sizes},
      {"header_limits", header_limits},
      {"flood", flood},
      {"both_ways", both_ways},
      {"bounded", bounded, kSmallBound},
      {"peer_dies", peer_dies, kDefaultInFlightBytes, kNumNodes - 1},
      {"wrong_version", wrong_version},
      {"stop_while_busy", stop_while_busy},
  };
  return all;
}

std::vector<Status> run_all(const Scenario& scenario,
                            std::span<const std::unique_ptr<Node>> nodes) {
  std::vector<Status> results(nodes.size());
  std::vector<std::jthread> threads;
  for (size_t id = 0; id < nodes.size(); ++id) {
    threads.emplace_back([&, id] { results[id] = scenario.run(*nodes[id]); });
  }
  for (std::jthread& thread : threads) thread.join();
  return results;
}

}  // namespace pregate::transport
