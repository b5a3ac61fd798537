// What comes to the port and is no peer.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/random.h"
#include "tests/conformance/transport/ucx_peers.h"
#include "transport/hello.h"

namespace pregate::transport {
namespace {

constexpr PeerId kListener{0};

/// A TCP connection of someone who knows nothing of us.
class Stranger {
 public:
  explicit Stranger(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval patience{20, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  }
  ~Stranger() { ::close(fd_); }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

  void say(const std::string& bytes) const {
    ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  /// Whether the other end closes; what it says before is skipped.
  bool is_closed() const {
    std::array<char, 4096> bytes;
    ssize_t got = 1;
    // A process that was stopped goes on with EINTR.
    while (got > 0 || (got < 0 && errno == EINTR)) {
      got = ::recv(fd_, bytes.data(), bytes.size(), 0);
    }
    return got == 0 || errno == ECONNRESET;
  }

 private:
  const int fd_;
};

uint16_t port_of(const std::string& address) {
  return static_cast<uint16_t>(std::stoul(address.substr(address.rfind(':') + 1)));
}

std::string hello_bytes(uint32_t version = 1) {
  const auto bytes = encode_hello({version, 77, {}});
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string card_bytes() { return std::string(16, '\1'); }

std::vector<std::string> garbage() {
  Random random(9);
  std::string noise(100'000, ' ');
  for (char& byte : noise) byte = static_cast<char>(random.next_u64());
  return {"GET / HTTP/1.1\r\nHost: somewhere\r\nUser-Agent: a port scanner of some length\r\n\r\n",
          "\x16\x03\x01" + std::string(300, '\x02'),
          std::string(64, '\0'),
          std::string(64, '\xff'),
          noise.substr(0, 64),
          noise,
          "PEGT" + noise.substr(0, 60),
          hello_bytes(2),
          hello_bytes() + card_bytes() + "and more",
          hello_bytes() + noise};
}

UcxOptions patient_for(Duration timeout) {
  UcxOptions options{.listen = "127.0.0.1:0"};
  options.connect_timeout = timeout;
  return options;
}

void expect_peers_are_welcome(Endpoint& listener) {
  Endpoint worker({.self = PeerId(1), .addresses = {{kListener, listener.address()}}});
  worker.ucx().connect(kListener);
  // Whoever is held up for longer than the listener waits dials again.
  const TimePoint until = system_clock().now() + std::chrono::seconds(30);
  while (!worker.ucx().send(kListener, {}, {}, {}) && system_clock().now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    worker.ucx().connect(kListener);
  }
  EXPECT_EQ(worker.next_up(), kListener);
  EXPECT_EQ(worker.next_payload().size(), 0u);
  EXPECT_TRUE(worker.echoes(kListener, 3'000'000));
}

TEST(UcxDoor, GarbageIsRefusedAndCounted) {
  Endpoint listener(patient_for(std::chrono::seconds(20)), /*echo=*/true);
  uint64_t num_refused = 0;
  for (const std::string& bytes : garbage()) {
    const Stranger stranger(port_of(listener.address()));
    stranger.say(bytes);
    EXPECT_TRUE(stranger.is_closed());
    EXPECT_EQ(listener.ucx().num_refused(), ++num_refused);
  }
  expect_peers_are_welcome(listener);
}

TEST(UcxDoor, WhoSaysNothingOrNotEnoughIsDroppedInTime) {
  Endpoint listener(patient_for(std::chrono::milliseconds(200)), /*echo=*/true);
  const Stranger silent(port_of(listener.address()));
  const Stranger slow(port_of(listener.address()));
  slow.say(hello_bytes().substr(0, 63));
  const Stranger no_card(port_of(listener.address()));
  no_card.say(hello_bytes());
  const Stranger no_call(port_of(listener.address()));
  no_call.say(hello_bytes() + card_bytes());
  { const Stranger hasty(port_of(listener.address())); }
  EXPECT_TRUE(silent.is_closed());
  EXPECT_TRUE(slow.is_closed());
  EXPECT_TRUE(no_card.is_closed());
  EXPECT_TRUE(no_call.is_closed());
  while (listener.ucx().num_refused() < 5) std::this_thread::yield();
  EXPECT_EQ(listener.ucx().num_refused(), 5u);
  expect_peers_are_welcome(listener);
}

TEST(UcxDoor, AFloodIsBoundedAndPassesBy) {
  UcxOptions options = patient_for(std::chrono::seconds(2));
  options.max_ungreeted = 8;
  Endpoint listener(options, /*echo=*/true);
  Endpoint worker({.self = PeerId(1), .addresses = {{kListener, listener.address()}}});
  worker.ucx().connect(kListener);
  worker.next_up();
  std::vector<std::unique_ptr<Stranger>> strangers;
  for (int i = 0; i < 300; ++i) {
    strangers.push_back(std::make_unique<Stranger>(port_of(listener.address())));
  }
  // All but eight are closed at once, and those who are up notice nothing.
  for (size_t i = 8; i < strangers.size(); ++i) EXPECT_TRUE(strangers[i]->is_closed());
  EXPECT_TRUE(worker.echoes(kListener, 3'000'000));
  for (size_t i = 0; i < 8; ++i) EXPECT_TRUE(strangers[i]->is_closed());
  EXPECT_EQ(listener.ucx().num_refused(), 300u);
  expect_peers_are_welcome(listener);
}

/// UCX opens a port of its own for the data.
std::vector<uint16_t> listening_ports() {
  std::set<std::string> sockets;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    if (target.starts_with("socket:[")) sockets.insert(target.substr(8, target.size() - 9));
  }
  std::vector<uint16_t> ports;
  std::ifstream table("/proc/self/net/tcp");
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::vector<std::string> field(10);
    for (std::string& text : field) fields >> text;
    const bool listens = field[3] == "0A";
    if (!listens || !sockets.contains(field[9])) continue;
    ports.push_back(static_cast<uint16_t>(std::stoul(field[1].substr(9), nullptr, 16)));
  }
  return ports;
}

TEST(UcxDoor, GarbageOnUcxsOwnPortHarmsNobody) {
  Endpoint listener(patient_for(std::chrono::seconds(20)), /*echo=*/true);
  const auto ports = listening_ports();
  ASSERT_GE(ports.size(), 2u) << "the door and UCX's";
  for (const uint16_t port : ports) {
    if (port == port_of(listener.address())) continue;
    for (const std::string& bytes : garbage()) {
      const Stranger stranger(port);
      stranger.say(bytes);
      EXPECT_TRUE(stranger.is_closed());
    }
    const Stranger silent(port);
    expect_peers_are_welcome(listener);
  }
}

}  // namespace
}  // namespace pregate::transport
