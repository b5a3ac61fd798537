#include "transport/ucx/door.h"

#include <cerrno>

#include <sys/socket.h>

namespace pregate::transport {
namespace {

bool is_later(int code) { return code == EAGAIN || code == EWOULDBLOCK || code == EINTR; }

}  // namespace

Status Door::write(std::span<const std::byte> bytes) {
  const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent == static_cast<ssize_t>(bytes.size())) return {};
  return fail(ErrorCode::kUnavailable, "the connection broke while greeting");
}

Result<std::vector<std::byte>> Door::read(size_t size) {
  while (partial_.size() < size) {
    const size_t before = partial_.size();
    partial_.resize(size);
    const ssize_t got = ::recv(socket_.get(), partial_.data() + before, size - before, 0);
    const int code = errno;
    partial_.resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && is_later(code)) return std::vector<std::byte>{};
    if (got <= 0) return fail(ErrorCode::kUnavailable, "the other end closed the connection");
  }
  return std::exchange(partial_, {});
}

}  // namespace pregate::transport
