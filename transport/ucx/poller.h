// Waits for file descriptors and for wake-ups by other threads.
//
// epoll and an eventfd, not Asio: between two sleeps the thread calls UCX some hundred times and
// looks at its sockets once, which with io_context would be a poll() each time or a timer.
#pragma once

#include <span>
#include <vector>

#include "base/clock.h"
#include "transport/ucx/socket.h"

namespace pregate::transport {

/// Used by one thread, but for wake().
class Poller {
 public:
  static Result<Poller> create();

  enum class Until { kReadable, kWritable };
  /// `key` is what wait() answers; not 0.
  void add(int fd, uint64_t key, Until until);
  /// What a descriptor that was added waits for from now on.
  void change(int fd, uint64_t key, Until until);
  void remove(int fd);

  /// The keys whose turn it is. Zero: only looks; negative: waits for ever.
  const std::vector<uint64_t>& wait(Duration timeout);
  /// Ends the wait() under way, or the next. Thread-safe.
  void wake();

 private:
  Poller(Fd epoll, Fd wake_up) : epoll_(std::move(epoll)), wake_up_(std::move(wake_up)) {}

  Fd epoll_, wake_up_;
  std::vector<uint64_t> ready_;
};

}  // namespace pregate::transport
