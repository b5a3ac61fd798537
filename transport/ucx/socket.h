// Plain TCP sockets that never block.
#pragma once

#include <string>
#include <utility>

#include <netinet/in.h>

#include "base/result.h"

namespace pregate::transport {

/// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { close(); }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void close();

 private:
  int fd_ = -1;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  void set_port(uint16_t port);
  uint16_t port() const;
  /// 0.0.0.0 or [::].
  bool is_any() const;
};

enum class LookUp { kAnyHost, kNumbersOnly };
/// "HOST:PORT". A name may take seconds to look up, and is kNotFound if nobody knows it now; with
/// kNumbersOnly it is kInvalidArgument.
Result<SocketAddress> parse_address(const std::string& address, LookUp look_up);
std::string to_string(const SocketAddress& address);

Result<Fd> listen_on(const SocketAddress& address);
/// Where a socket is bound to.
Result<SocketAddress> local_address(const Fd& socket);
/// What a connected socket leads to.
Result<SocketAddress> remote_address(const Fd& socket);
/// Begins to connect: the socket becomes writable when that has ended one way or the other.
Result<Fd> dial(const SocketAddress& address);
/// How it ended.
Status finish_dialling(const Fd& socket);
/// The next connection; one that is not open when none waits.
Fd accept_from(const Fd& listener);

/// The network device that has this address; empty if none.
std::string device_with(const SocketAddress& address);
/// The network device through which this address is reached; empty if that is not known.
std::string device_towards(const SocketAddress& address);

}  // namespace pregate::transport
