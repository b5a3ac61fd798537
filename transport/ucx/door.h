// The socket on which two processes greet each other before either tells UCX of the other: UCX
// trusts what it is given. Afterwards it stays open and silent; its end is the peer's end, which
// the kernel tells at once.
#pragma once

#include <span>
#include <vector>

#include "transport/ucx/socket.h"

namespace pregate::transport {

class Door {
 public:
  Door() = default;
  explicit Door(Fd socket) : socket_(std::move(socket)) {}

  const Fd& socket() const { return socket_; }
  void close() { socket_.close(); }

  /// For the few bytes of a greeting, which always fit into the socket's buffer.
  Status write(std::span<const std::byte> bytes);
  /// The next `size` bytes, all of them: empty while some have not come.
  Result<std::vector<std::byte>> read(size_t size);

 private:
  Fd socket_;
  std::vector<std::byte> partial_;
};

}  // namespace pregate::transport
