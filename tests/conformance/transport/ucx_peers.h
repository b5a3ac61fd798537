// For the tests of UCX: what a transport calls back, and processes to kill.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <sys/types.h>

#include "transport/ucx/ucx.h"

namespace pregate::transport {

/// A transport of this process, and all that happened to it.
class Endpoint {
 public:
  explicit Endpoint(const UcxOptions& options, bool echo = false, uint32_t version = 1);
  ~Endpoint() { stop(); }

  UcxTransport& ucx() { return *ucx_; }
  std::string address() const { return ucx_->listen_address(); }
  void stop(Duration linger = std::chrono::seconds(1));

  struct Down {
    PeerId peer;
    Error error;
  };
  /// The next peer_up, peer_down or payload that was not taken yet; fails the test after a while.
  PeerId next_up();
  Down next_down();
  Payload next_payload();
  /// Sends `size` bytes and waits for the echo.
  bool echoes(PeerId peer, size_t size);

  /// A send whose completion is counted.
  Status send(PeerId peer, size_t size);
  bool wait_all_completed();
  size_t num_failed();

 private:
  template <typename T>
  T next(std::deque<T>& queue, const char* what);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<PeerId> ups_;  // all below guarded by mutex_
  std::deque<Down> downs_;
  std::deque<Payload> payloads_;
  size_t num_sent_ = 0, num_completed_ = 0, num_failed_ = 0;
  std::unique_ptr<UcxTransport> ucx_;
};

/// A ucx_node; killed at the end.
class Process {
 public:
  explicit Process(const std::vector<std::string>& arguments);
  ~Process() { kill(); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void signal(int number) const;
  void kill();
  /// Its exit status; -1 if a signal ended it.
  int wait();

 private:
  pid_t pid_ = -1;
};

}  // namespace pregate::transport
