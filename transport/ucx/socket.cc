#include "transport/ucx/socket.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <unistd.h>

namespace pregate::transport {
namespace {

constexpr int kBacklog = 256;

std::string error_text(int code) { return std::generic_category().message(code); }

/// A host may get its name after those who look for it have started.
bool may_be_known_later(int code) {
  return code == EAI_AGAIN || code == EAI_FAIL || code == EAI_NONAME || code == EAI_NODATA;
}

/// Without the port.
bool same_host(const sockaddr* a, const SocketAddress& b) {
  if (a == nullptr || a->sa_family != b.storage.ss_family) return false;
  if (a->sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(a)->sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in*>(b.get())->sin_addr.s_addr;
  }
  return a->sa_family == AF_INET6 &&
         std::memcmp(&reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr,
                     &reinterpret_cast<const sockaddr_in6*>(b.get())->sin6_addr,
                     sizeof(in6_addr)) == 0;
}

Result<Fd> open_socket(int family, int type) {
  Fd fd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.is_open()) return fail(ErrorCode::kUnavailable, "socket: {}", error_text(errno));
  return fd;
}

}  // namespace

void Fd::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void SocketAddress::set_port(uint16_t port) {
  // At the same place for both families.
  reinterpret_cast<sockaddr_in*>(&storage)->sin_port = htons(port);
}

uint16_t SocketAddress::port() const {
  return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
}

bool SocketAddress::is_any() const {
  if (storage.ss_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
  return IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
}

Result<SocketAddress> parse_address(const std::string& address, LookUp look_up) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return fail(ErrorCode::kInvalidArgument, "address {}: expected HOST:PORT", address);
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (look_up == LookUp::kNumbersOnly ? AI_NUMERICHOST : 0);
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found);
  if (code != 0) {
    return fail(may_be_known_later(code) && look_up == LookUp::kAnyHost
                    ? ErrorCode::kNotFound
                    : ErrorCode::kInvalidArgument,
                "address {}: {}", address, ::gai_strerror(code));
  }
  SocketAddress result;
  std::memcpy(&result.storage, found->ai_addr, found->ai_addrlen);
  result.size = found->ai_addrlen;
  ::freeaddrinfo(found);
  return result;
}

std::string to_string(const SocketAddress& address) {
  char host[NI_MAXHOST] = "?";
  char port[NI_MAXSERV] = "?";
  ::getnameinfo(address.get(), address.size, host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
  const bool v6 = address.storage.ss_family == AF_INET6;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<Fd> listen_on(const SocketAddress& address) {
  PREGATE_ASSIGN(Fd fd, open_socket(address.storage.ss_family, SOCK_STREAM));
  // A process that is started again must not wait for the connections of its past self.
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd.get(), address.get(), address.size) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    return fail(ErrorCode::kUnavailable, "cannot listen on {}: {}", to_string(address),
                error_text(errno));
  }
  return fd;
}

Result<SocketAddress> local_address(const Fd& socket) {
  SocketAddress address;
  address.size = sizeof(address.storage);
  if (::getsockname(socket.get(), address.get(), &address.size) != 0) {
    return fail(ErrorCode::kInternal, "getsockname: {}", error_text(errno));
  }
  return address;
}

Result<SocketAddress> remote_address(const Fd& socket) {
  SocketAddress address;
  address.size = sizeof(address.storage);
  if (::getpeername(socket.get(), address.get(), &address.size) != 0) {
    return fail(ErrorCode::kUnavailable, "getpeername: {}", error_text(errno));
  }
  return address;
}

Result<Fd> dial(const SocketAddress& address) {
  PREGATE_ASSIGN(Fd fd, open_socket(address.storage.ss_family, SOCK_STREAM));
  if (::connect(fd.get(), address.get(), address.size) != 0 && errno != EINPROGRESS) {
    return fail(ErrorCode::kUnavailable, "{}", error_text(errno));
  }
  return fd;
}

Status finish_dialling(const Fd& socket) {
  int code = 0;
  socklen_t size = sizeof(code);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &code, &size) != 0) code = errno;
  if (code == 0) return {};
  return fail(ErrorCode::kUnavailable, "{}", error_text(code));
}

Fd accept_from(const Fd& listener) {
  return Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

std::string device_with(const SocketAddress& address) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return "";
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(all, ::freeifaddrs);
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if (same_host(each->ifa_addr, address)) return each->ifa_name;
  }
  return "";
}

std::string device_towards(const SocketAddress& address) {
  // Connecting a datagram socket sends nothing: it only asks for the route.
  const auto fd = open_socket(address.storage.ss_family, SOCK_DGRAM);
  if (!fd || ::connect(fd->get(), address.get(), address.size) != 0) return "";
  const auto local = local_address(*fd);
  return local ? device_with(*local) : "";
}

}  // namespace pregate::transport
