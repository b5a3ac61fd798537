#include "cli/doctor/probes.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <thread>

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

namespace pregate::cli::doctor {
namespace {

constexpr const char* kSharedMemory = "/dev/shm";

using AddressList = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

std::string error_text(int code) { return std::generic_category().message(code); }

/// Null where nobody knows the host.
AddressList look_up(const std::string& host, const char* port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port, &hints, &found) != 0) found = nullptr;
  return {found, [](addrinfo* list) {
            if (list != nullptr) ::freeaddrinfo(list);
          }};
}

std::string text_of(const sockaddr* address) {
  const socklen_t size = address->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  char host[NI_MAXHOST] = "?";
  ::getnameinfo(address, size, host, sizeof(host), nullptr, 0, NI_NUMERICHOST);
  return host;
}

bool is_ip(const sockaddr* address) {
  return address != nullptr && (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

/// Binding without listening: probes of several ranks on one host do not meet.
Status try_bind(const addrinfo& address, const std::string& name) {
  const int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(ErrorCode::kUnavailable, "{}: {}", name, error_text(errno));
  const int on = 1;
  // As the servers do: what remains of a past process is no hindrance.
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const int code = ::bind(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  ::close(fd);
  if (code == 0) return {};
  return fail(ErrorCode::kUnavailable, "{}: {}", name, error_text(code));
}

}  // namespace

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

std::vector<std::string> addresses_of(const std::string& name) {
  const AddressList found = look_up(name, nullptr, 0);
  std::vector<std::string> addresses;
  for (const addrinfo* each = found.get(); each != nullptr; each = each->ai_next) {
    if (is_ip(each->ai_addr)) addresses.push_back(text_of(each->ai_addr));
  }
  return addresses;
}

std::vector<Interface> list_interfaces() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(all, ::freeifaddrs);
  std::vector<Interface> interfaces;
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if ((each->ifa_flags & IFF_UP) == 0 || !is_ip(each->ifa_addr)) continue;
    interfaces.push_back(
        {each->ifa_name, text_of(each->ifa_addr), (each->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return interfaces;
}

Status probe_address(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return fail(ErrorCode::kInvalidArgument, "{}: expected HOST:PORT", address);
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const AddressList found = look_up(host, address.c_str() + colon + 1, AI_NUMERICSERV | AI_PASSIVE);
  if (!found) return fail(ErrorCode::kInvalidArgument, "{}: no such host or port", address);
  return try_bind(*found, address);
}

size_t cores_of_machine() {
  return static_cast<size_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

size_t allowed_cores() { return std::max(1U, std::thread::hardware_concurrency()); }

uint64_t open_files_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : 0;
}

SharedMemory look_at_shared_memory(bool needed) {
  SharedMemory memory{.writable = {}, .free_bytes = 0, .needed = needed};
  const int fd = ::open(kSharedMemory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    memory.writable = fail(ErrorCode::kUnavailable, "cannot make a file: {}", error_text(errno));
    return memory;
  }
  struct statvfs space {};
  if (::fstatvfs(fd, &space) == 0) memory.free_bytes = space.f_bavail * space.f_frsize;
  ::close(fd);
  return memory;
}

std::optional<bool> clock_synchronised() {
  timex state{};  // modes 0: only asks
  const int answer = ::adjtimex(&state);
  if (answer < 0) return std::nullopt;
  return answer != TIME_ERROR && (state.status & STA_UNSYNC) == 0;
}

}  // namespace pregate::cli::doctor
