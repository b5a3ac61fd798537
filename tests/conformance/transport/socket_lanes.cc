#include "tests/conformance/transport/socket_lanes.h"

#include <cerrno>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/random.h"

namespace pregate::transport {
namespace {

constexpr size_t kNameBytes = 24;
constexpr auto kLook = std::chrono::milliseconds(1);

class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const { return descriptor_; }

 private:
  int descriptor_ = -1;
};

Socket open_socket() { return Socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

/// In the abstract namespace: nothing is left in the file system.
sockaddr_un address_of(const LaneKey& key) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::memcpy(address.sun_path + 1, key.data(), kNameBytes);
  return address;
}

constexpr socklen_t kAddressBytes = offsetof(sockaddr_un, sun_path) + 1 + kNameBytes;

class SocketLane final : public Lane {
 public:
  SocketLane(uint32_t failures, uint64_t seed) : failures_(failures), random_(seed) {}

  Status join(const LaneKey& key, LaneEnd end, TimePoint until) override {
    if (fails()) return broken();
    return end == LaneEnd::kSender ? listen(key, until) : dial(key, until);
  }

  Status send(const LaneBytes<const std::byte>& from, Duration max_stall) override {
    if (from.memory == nullptr) return send_bytes(from.bytes, max_stall);
    std::vector<std::byte> bytes(from.bytes.size());
    PREGATE_TRY(from.memory->read(bytes, from.bytes.data()));
    return send_bytes(bytes, max_stall);
  }

  Status receive(const LaneBytes<std::byte>& to, Duration max_stall) override {
    if (to.memory == nullptr) return receive_bytes(to.bytes, max_stall);
    std::vector<std::byte> bytes(to.bytes.size());
    PREGATE_TRY(receive_bytes(bytes, max_stall));
    return to.memory->write(to.bytes.data(), bytes);
  }

  void cancel() override { cancelled_ = true; }

 private:
  static tl::unexpected<Error> broken() {
    return fail(ErrorCode::kUnavailable, "the lane was broken for the test");
  }

  bool fails() { return failures_ > 0 && random_.next_below(1000) < failures_; }

  Status check(TimePoint until) const {
    if (cancelled_) return fail(ErrorCode::kCancelled, "the lane was given up");
    if (system_clock().now() < until) return {};
    return fail(ErrorCode::kDeadlineExceeded, "no answer in time");
  }

  Status send_bytes(std::span<const std::byte> bytes, Duration max_stall) {
    return move(bytes.size(), POLLOUT, max_stall, [&](size_t done, size_t most) {
      return ::send(peer_.get(), bytes.data() + done, most, MSG_DONTWAIT | MSG_NOSIGNAL);
    });
  }

  Status receive_bytes(std::span<std::byte> bytes, Duration max_stall) {
    return move(bytes.size(), POLLIN, max_stall, [&](size_t done, size_t most) {
      return ::recv(peer_.get(), bytes.data() + done, most, MSG_DONTWAIT);
    });
  }

  Status wait(int descriptor, short what, TimePoint until) const {
    for (;;) {
      PREGATE_TRY(check(until));
      pollfd poll{descriptor, what, 0};
      if (::poll(&poll, 1, int(kLook.count())) > 0) return {};
    }
  }

  Status listen(const LaneKey& key, TimePoint until) {
    const Socket listening = open_socket();
    const sockaddr_un address = address_of(key);
    if (::bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), kAddressBytes) != 0 ||
        ::listen(listening.get(), 1) != 0) {
      return fail(ErrorCode::kUnavailable, "socket lane: {}", std::strerror(errno));
    }
    PREGATE_TRY(wait(listening.get(), POLLIN, until));
    peer_ = Socket(::accept(listening.get(), nullptr, nullptr));
    return {};
  }

  Status dial(const LaneKey& key, TimePoint until) {
    const sockaddr_un address = address_of(key);
    for (;;) {
      PREGATE_TRY(check(until));
      peer_ = open_socket();
      if (::connect(peer_.get(), reinterpret_cast<const sockaddr*>(&address), kAddressBytes) == 0) {
        return {};
      }
      std::this_thread::sleep_for(kLook);
    }
  }

  Status move(size_t size, short what, Duration max_stall,
              const std::function<ssize_t(size_t, size_t)>& some) {
    // One that is to fail does so after the half, as real ones do.
    const size_t end = fails() ? size / 2 : size;
    for (size_t done = 0; done < end;) {
      PREGATE_TRY(wait(peer_.get(), what, system_clock().now() + max_stall));
      const ssize_t moved = some(done, end - done);
      if (moved == 0) return fail(ErrorCode::kUnavailable, "the other end closed");
      if (moved < 0 && errno != EAGAIN) {
        return fail(ErrorCode::kUnavailable, "socket lane: {}", std::strerror(errno));
      }
      if (moved > 0) done += size_t(moved);
    }
    return end == size ? Status() : broken();
  }

  const uint32_t failures_;
  Random random_;
  std::atomic<bool> cancelled_{false};
  Socket peer_;
};

}  // namespace

NcclOptions eager_options(size_t max_in_flight_bytes) {
  return {.min_payload_bytes = 1000,
          .max_in_flight_bytes = max_in_flight_bytes,
          .join_timeout = std::chrono::seconds(10),
          .max_stall = std::chrono::seconds(60),
          .first_pause = std::chrono::milliseconds(1),
          .max_pause = std::chrono::milliseconds(4)};
}

Result<LaneKey> SocketLanes::make_key() {
  LaneKey key{};
  Random random(seed_from_system());
  for (size_t i = 0; i < kNameBytes; ++i) key[i] = std::byte(1 + random.next_below(255));
  return key;
}

std::unique_ptr<Lane> SocketLanes::make_lane() {
  const uint64_t number = num_made_++;
  return std::make_unique<SocketLane>(options_.failures, options_.seed * 1000 + number);
}

}  // namespace pregate::transport
