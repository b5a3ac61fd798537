#include "tests/conformance/transport/ucx_peers.h"

#include <csignal>

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include "base/check.h"
#include "base/random.h"

extern char** environ;

namespace pregate::transport {
namespace {

/// Generous: it only ends a test that has failed.
constexpr auto kDeadline = std::chrono::seconds(30);

}  // namespace

Endpoint::Endpoint(const UcxOptions& options, bool echo, uint32_t version) {
  auto made = make_ucx_transport(options);
  if (!made) ADD_FAILURE() << made.error().message;
  PREGATE_CHECK(made.has_value());
  ucx_ = std::move(*made);
  Events events;
  events.peer_up = [this](PeerId peer, const Hello&) {
    std::lock_guard lock(mutex_);
    ups_.push_back(peer);
    changed_.notify_all();
  };
  events.peer_down = [this](PeerId peer, const Error& error) {
    std::lock_guard lock(mutex_);
    downs_.push_back({peer, error});
    changed_.notify_all();
  };
  events.receive = [this, echo](PeerId peer, std::span<const std::byte> header, Payload payload) {
    if (echo) {
      (void)ucx_->send(peer, header, std::move(payload), {});
      return;
    }
    std::lock_guard lock(mutex_);
    payloads_.push_back(std::move(payload));
    changed_.notify_all();
  };
  ucx_->start({version, seed_from_system(), {}}, std::move(events));
}

void Endpoint::stop(Duration linger) { ucx_->stop({.linger = linger, .peers_lost = false}); }

template <typename T>
T Endpoint::next(std::deque<T>& queue, const char* what) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kDeadline, [&] { return !queue.empty(); })) {
    ADD_FAILURE() << "waited in vain for " << what;
    return {};
  }
  T item = std::move(queue.front());
  queue.pop_front();
  return item;
}

PeerId Endpoint::next_up() { return next(ups_, "peer_up"); }
Endpoint::Down Endpoint::next_down() { return next(downs_, "peer_down"); }
Payload Endpoint::next_payload() { return next(payloads_, "a message"); }

bool Endpoint::echoes(PeerId peer, size_t size) {
  const Status sent = send(peer, size);
  if (!sent) ADD_FAILURE() << sent.error().message;
  return sent && next_payload().size() == size;
}

Status Endpoint::send(PeerId peer, size_t size) {
  {
    std::lock_guard lock(mutex_);
    ++num_sent_;
  }
  const auto done = [this](const Status& status) {
    std::lock_guard lock(mutex_);
    ++num_completed_;
    if (!status) ++num_failed_;
    changed_.notify_all();
  };
  const std::vector<std::byte> bytes(size, std::byte{5});
  const Status sent = ucx_->send(peer, {}, Payload::copy_of(bytes), done);
  if (!sent) {
    std::lock_guard lock(mutex_);
    --num_sent_;
  }
  return sent;
}

bool Endpoint::wait_all_completed() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kDeadline, [this] { return num_completed_ == num_sent_; });
}

size_t Endpoint::num_failed() {
  std::lock_guard lock(mutex_);
  return num_failed_;
}

Process::Process(const std::vector<std::string>& arguments) {
  std::string program = PREGATE_UCX_NODE;
  std::vector<std::string> texts = arguments;
  std::vector<char*> argv{program.data()};
  for (std::string& text : texts) argv.push_back(text.data());
  argv.push_back(nullptr);
  const int code = ::posix_spawn(&pid_, program.c_str(), nullptr, nullptr, argv.data(), environ);
  EXPECT_EQ(code, 0) << "cannot start " << program;
}

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

void Process::kill() {
  signal(SIGKILL);
  wait();
}

int Process::wait() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(std::exchange(pid_, -1), &status, 0) < 0) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace pregate::transport
