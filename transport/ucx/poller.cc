#include "transport/ucx/poller.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace pregate::transport {
namespace {

constexpr uint64_t kWakeUp = 0;

epoll_event event_of(uint64_t key, Poller::Until until) {
  epoll_event event{};
  event.events = until == Poller::Until::kReadable ? EPOLLIN : EPOLLOUT;
  event.data.u64 = key;
  return event;
}

int milliseconds(Duration timeout) {
  if (timeout < Duration::zero()) return -1;
  const auto rounded_up = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  return static_cast<int>(std::min<int64_t>(rounded_up, 60'000));
}

}  // namespace

Result<Poller> Poller::create() {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  Fd wake_up(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!epoll.is_open() || !wake_up.is_open()) {
    return fail(ErrorCode::kResourceExhausted, "epoll or eventfd: {}", std::strerror(errno));
  }
  Poller poller(std::move(epoll), std::move(wake_up));
  poller.add(poller.wake_up_.get(), kWakeUp, Until::kReadable);
  return poller;
}

void Poller::add(int fd, uint64_t key, Until until) {
  epoll_event event = event_of(key, until);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

void Poller::change(int fd, uint64_t key, Until until) {
  epoll_event event = event_of(key, until);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Poller::remove(int fd) { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

const std::vector<uint64_t>& Poller::wait(Duration timeout) {
  ready_.clear();
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                 milliseconds(timeout));
  for (int i = 0; i < count; ++i) {
    if (events[i].data.u64 != kWakeUp) {
      ready_.push_back(events[i].data.u64);
      continue;
    }
    uint64_t wake_ups = 0;
    [[maybe_unused]] const auto ignored = ::read(wake_up_.get(), &wake_ups, sizeof(wake_ups));
  }
  return ready_;
}

void Poller::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const auto ignored = ::write(wake_up_.get(), &one, sizeof(one));
}

}  // namespace pregate::transport
