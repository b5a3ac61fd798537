#include "transport/nccl/nccl.h"

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "base/log.h"
#include "transport/nccl/link.h"

namespace pregate::transport {
namespace {

class NcclTransport final : public Transport {
 public:
  NcclTransport(Transport& carrier, std::shared_ptr<LaneMaker> lanes, NcclProbe& probe,
                const NcclOptions& options)
      : carrier_(carrier), lanes_(std::move(lanes)), probe_(probe), options_(options) {
    for (const PeerId peer : carrier_.launched_peers()) trusted_.insert(peer);
  }
  ~NcclTransport() override { stop({.linger = {}, .peers_lost = false}); }

  std::string name() const override { return carrier_.name() + "+nccl"; }
  PeerId self() const override { return carrier_.self(); }
  std::vector<PeerId> launched_peers() const override { return carrier_.launched_peers(); }

  void start(Hello hello, Events events) override;
  void connect(PeerId peer) override;
  Status send(PeerId to, std::span<const std::byte> header, Payload payload,
              Completion done) override {
    return send(to, header, std::move(payload), std::move(done), Outbound::Wake::kNow);
  }
  Status queue(PeerId to, std::span<const std::byte> header, Payload payload,
               Completion done) override {
    return send(to, header, std::move(payload), std::move(done), Outbound::Wake::kLater);
  }
  bool takes_tail(PeerId to, size_t tail_bytes) const override {
    const auto link = find(to);
    return link != nullptr && link->takes_tail(tail_bytes);
  }
  void disconnect(PeerId peer) override;
  void stop(const StopOptions& options) override;
  bool drive(TimePoint until, const std::function<bool()>& done) override {
    return carrier_.drive(until, done);
  }
  void interrupt_drive() override { carrier_.interrupt_drive(); }
  bool needs_hard_exit() const override { return hung_ || carrier_.needs_hard_exit(); }

 private:
  Status send(PeerId to, std::span<const std::byte> header, Payload payload, Completion done,
              Outbound::Wake wake);
  Completion one_at_a_time(Completion done);
  void on_peer_up(PeerId peer, const Hello& hello);
  void on_peer_down(PeerId peer, const Error& why);
  void on_receive(PeerId from, std::span<const std::byte> header, Payload payload);
  void give_up(PeerId peer, const Error& why);
  std::shared_ptr<NcclLink> find(PeerId peer) const;
  std::vector<std::shared_ptr<NcclLink>> all_links() const;
  bool retire_locked(PeerId peer, const Error& why);
  void reap_locked(std::vector<std::shared_ptr<NcclLink>>& ended);
  bool wait_for_links(TimePoint until, bool (NcclLink::*holds)() const) const;
  void leak();

  Transport& carrier_;
  const std::shared_ptr<LaneMaker> lanes_;
  NcclProbe& probe_;
  const NcclOptions options_;
  std::unique_ptr<NcclShared> shared_;  // constant once started
  bool stopped_ = false;                // the thread that calls stop()
  bool hung_ = false;                   // the same

  mutable std::mutex mutex_;
  // All below guarded by mutex_.
  std::set<PeerId> trusted_;
  std::set<PeerId> with_nccl_;  // what they say are notes, whether there is a link or not
  bool stopping_ = false;
  std::map<PeerId, std::shared_ptr<NcclLink>> links_;
  std::vector<std::shared_ptr<NcclLink>> retired_;  // closed; their threads may not have ended
};

/// For threads to end once they were told to.
constexpr auto kPatience = std::chrono::seconds(5);

Error gone(PeerId peer) { return {ErrorCode::kUnavailable, fmt::format("peer {} is gone", peer)}; }

void NcclTransport::start(Hello hello, Events events) {
  shared_.reset(new NcclShared{.carrier = carrier_,
                               .lanes = *lanes_,
                               .probe = probe_,
                               .options = options_,
                               .events = std::move(events)});
  hello.features |= kNcclFeature;
  Events own;
  own.peer_up = [this](PeerId peer, const Hello& theirs) { on_peer_up(peer, theirs); };
  own.peer_down = [this](PeerId peer, const Error& why) { on_peer_down(peer, why); };
  own.receive = [this](PeerId from, std::span<const std::byte> header, Payload payload) {
    on_receive(from, header, std::move(payload));
  };
  carrier_.start(std::move(hello), std::move(own));
}

void NcclTransport::connect(PeerId peer) {
  {
    std::lock_guard lock(mutex_);
    trusted_.insert(peer);
  }
  carrier_.connect(peer);
}

Status NcclTransport::send(PeerId to, std::span<const std::byte> header, Payload payload,
                           Completion done, Outbound::Wake wake) {
  if (const auto link = find(to)) {
    return link->send(header, std::move(payload), std::move(done), wake);
  }
  PREGATE_ASSIGN(payload, payload.on_host());
  done = one_at_a_time(std::move(done));
  if (wake == Outbound::Wake::kLater) {
    return carrier_.queue(to, header, std::move(payload), std::move(done));
  }
  return carrier_.send(to, header, std::move(payload), std::move(done));
}

Completion NcclTransport::one_at_a_time(Completion done) {
  if (!done) return done;
  return [this, done = std::move(done)](const Status& status) {
    std::lock_guard callbacks(shared_->callback_mutex);
    done(status);
  };
}

std::shared_ptr<NcclLink> NcclTransport::find(PeerId peer) const {
  std::lock_guard lock(mutex_);
  const auto link = links_.find(peer);
  return link == links_.end() ? nullptr : link->second;
}

void NcclTransport::on_peer_up(PeerId peer, const Hello& hello) {
  {
    std::vector<std::shared_ptr<NcclLink>> ended;  // destroyed without the lock
    std::lock_guard lock(mutex_);
    retire_locked(peer, gone(peer));
    reap_locked(ended);
    with_nccl_.erase(peer);
    if ((hello.features & kNcclFeature) != 0) {
      with_nccl_.insert(peer);
      if (!stopping_) {
        links_[peer] = std::make_shared<NcclLink>(peer, trusted_.contains(peer), *shared_);
      }
    }
  }
  std::lock_guard callbacks(shared_->callback_mutex);
  if (shared_->events.peer_up) shared_->events.peer_up(peer, hello);
}

void NcclTransport::on_peer_down(PeerId peer, const Error& why) {
  {
    std::lock_guard lock(mutex_);
    retire_locked(peer, gone(peer));
  }
  std::lock_guard callbacks(shared_->callback_mutex);
  if (shared_->events.peer_down) shared_->events.peer_down(peer, why);
}

void NcclTransport::on_receive(PeerId from, std::span<const std::byte> header, Payload payload) {
  if (const auto link = find(from)) {
    const Status received = link->receive(header, std::move(payload));
    if (!received) give_up(from, received.error());
    return;
  }
  {
    // Given up meanwhile: what was before it may be missing.
    std::lock_guard lock(mutex_);
    if (with_nccl_.contains(from)) return;
  }
  std::lock_guard callbacks(shared_->callback_mutex);
  if (shared_->events.receive) shared_->events.receive(from, header, std::move(payload));
}

void NcclTransport::give_up(PeerId peer, const Error& why) {
  {
    std::lock_guard lock(mutex_);
    if (!retire_locked(peer, gone(peer))) return;  // it was given up from above
    carrier_.disconnect(peer);
  }
  std::lock_guard callbacks(shared_->callback_mutex);
  if (shared_->events.peer_down) shared_->events.peer_down(peer, why);
}

/// Closes a link; its threads end their work later. False: there was none.
bool NcclTransport::retire_locked(PeerId peer, const Error& why) {
  const auto found = links_.find(peer);
  if (found == links_.end()) return false;
  found->second->close(why);
  retired_.push_back(std::move(found->second));
  links_.erase(found);
  return true;
}

void NcclTransport::reap_locked(std::vector<std::shared_ptr<NcclLink>>& ended) {
  const auto first = std::partition(retired_.begin(), retired_.end(),
                                    [](const auto& link) { return !link->has_ended(); });
  ended.assign(std::make_move_iterator(first), std::make_move_iterator(retired_.end()));
  retired_.erase(first, retired_.end());
}

void NcclTransport::disconnect(PeerId peer) {
  std::vector<std::shared_ptr<NcclLink>> ended;
  // Both under the lock: a peer that came back in between would be cut off unnoticed.
  std::lock_guard lock(mutex_);
  retire_locked(peer, gone(peer));
  reap_locked(ended);
  carrier_.disconnect(peer);
}

std::vector<std::shared_ptr<NcclLink>> NcclTransport::all_links() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<NcclLink>> links = retired_;
  for (const auto& [peer, link] : links_) links.push_back(link);
  return links;
}

/// Whether it came to hold for all.
bool NcclTransport::wait_for_links(TimePoint until, bool (NcclLink::*holds)() const) const {
  for (;;) {
    const auto links = all_links();
    if (std::ranges::all_of(links, [&](const auto& link) { return (*link.*holds)(); })) return true;
    if (system_clock().now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void NcclTransport::stop(const StopOptions& options) {
  if (std::exchange(stopped_, true)) return;
  const TimePoint give_up_at = system_clock().now() + options.linger;
  wait_for_links(give_up_at, &NcclLink::is_idle);
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  // Closed links stay, so that what still arrives goes nowhere. Their threads use the carrier.
  for (const auto& link : all_links()) link->close({ErrorCode::kCancelled, "transport stopped"});
  const bool have_ended = wait_for_links(give_up_at + kPatience, &NcclLink::has_ended);
  StopOptions left = options;
  left.linger = std::max<Duration>(give_up_at - system_clock().now(), Duration{});
  carrier_.stop(left);
  if (!have_ended) leak();
}

/// The driver does not let go of some thread: it and what it uses stay, and the process should end
/// the hard way.
void NcclTransport::leak() {
  spdlog::error("NCCL does not end: some of its threads are left behind");
  hung_ = true;
  std::lock_guard lock(mutex_);
  new std::vector<std::shared_ptr<NcclLink>>(std::move(retired_));
  for (auto& [peer, link] : links_) new std::shared_ptr<NcclLink>(std::move(link));
  links_.clear();
  static_cast<void>(shared_.release());
}

}  // namespace

std::unique_ptr<Transport> make_nccl_transport(Transport& carrier, std::shared_ptr<LaneMaker> lanes,
                                               NcclProbe& probe, const NcclOptions& options) {
  return std::make_unique<NcclTransport>(carrier, std::move(lanes), probe, options);
}

}  // namespace pregate::transport
