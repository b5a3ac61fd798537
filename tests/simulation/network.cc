#include "tests/simulation/network.h"

#include <algorithm>

#include "base/check.h"

namespace pregate::simulation {

using transport::Completion;
using transport::Events;
using transport::Hello;
using transport::Payload;
using transport::PeerId;
using transport::Transport;

namespace {

constexpr HostId kListener = 0;
constexpr PeerId kListenerPeer{0};
constexpr auto kConnectTimeout = std::chrono::seconds(5);
/// A process that ends is noticed after so long.
constexpr auto kMinNotice = std::chrono::milliseconds(2);
constexpr auto kMaxNotice = std::chrono::milliseconds(5);
/// What TCP needs to go on after a cut.
constexpr auto kMinResume = std::chrono::milliseconds(200);
constexpr auto kMaxResume = std::chrono::milliseconds(1400);

Error gone(const char* why) { return {ErrorCode::kUnavailable, why}; }

}  // namespace

struct Network::Host {
  LinkFaults to_listener, from_listener;
  uint64_t life = 0;  // counts processes
  bool alive = false;
  bool frozen = false;
  std::deque<std::function<void()>> backlog;  // while frozen
  Endpoint* endpoint = nullptr;
  std::function<void()> after_events;
};

struct Network::Connection {
  HostId dialler = 0;
  uint64_t dialler_life = 0, listener_life = 0;
  PeerId peer_at_listener;
  // [1]: of the listener, or towards it.
  bool open[2] = {true, true};  // as that end knows
  TimePoint last_arrival[2];
  std::vector<std::function<void()>> held_back[2];  // while cut
};

class Endpoint final : public Transport {
 public:
  Endpoint(Network& network, HostId host, uint64_t life)
      : network_(network), host_(host), life_(life) {}
  ~Endpoint() override { stop({}); }

  std::string name() const override { return "simulated"; }
  PeerId self() const override { return PeerId(static_cast<uint32_t>(host_)); }
  std::vector<PeerId> launched_peers() const override { return {}; }
  void start(Hello hello, Events events) override {
    hello_ = std::move(hello);
    events_ = std::move(events);
    started_ = true;
  }
  void connect(PeerId) override { network_.dial(host_); }
  Status send(PeerId to, std::span<const std::byte> header, Payload payload,
              Completion done) override;
  void disconnect(PeerId peer) override {
    if (const auto connection = network_.find(host_, peer)) {
      network_.close(connection, host_, "the other end hung up");
    }
  }
  void stop(const transport::StopOptions&) override;

  bool is_running() const { return started_; }
  const Hello& hello() const { return hello_; }
  const Events& events() const { return events_; }
  uint64_t life() const { return life_; }

 private:
  Network& network_;
  const HostId host_;
  const uint64_t life_;
  Hello hello_;
  Events events_;
  bool started_ = false;
};

Network::Network(World& world, size_t num_hosts) : world_(world) {
  for (size_t i = 0; i < num_hosts; ++i) hosts_.push_back(std::make_unique<Host>());
}
Network::~Network() {
  // What is held back may hold its connection.
  for (const auto& connection : connections_) {
    for (auto& held_back : connection->held_back) held_back.clear();
  }
}

std::unique_ptr<Transport> Network::attach(HostId host) {
  Host& node = *hosts_[host];
  ++node.life;
  node.alive = true;
  node.frozen = false;
  node.backlog.clear();
  node.after_events = nullptr;
  auto endpoint = std::make_unique<Endpoint>(*this, host, node.life);
  node.endpoint = endpoint.get();
  return endpoint;
}

LinkFaults& Network::to_listener(HostId host) { return hosts_[host]->to_listener; }
LinkFaults& Network::from_listener(HostId host) { return hosts_[host]->from_listener; }
bool Network::is_frozen(HostId host) const { return hosts_[host]->frozen; }

LinkFaults& Network::faults_of(const Connection& connection, bool to_listener) {
  Host& dialler = *hosts_[connection.dialler];
  return to_listener ? dialler.to_listener : dialler.from_listener;
}

// Hosts.

void Network::deliver(HostId host, uint64_t life, std::function<void()> event) {
  Host& node = *hosts_[host];
  if (!node.alive || node.life != life) return;
  if (node.frozen) {
    node.backlog.push_back(std::move(event));
  } else {
    event();
  }
}

void Network::tell(HostId host, uint64_t life, std::function<void()> event) {
  deliver(host, life, [this, host, event = std::move(event)] {
    event();
    if (hosts_[host]->after_events) hosts_[host]->after_events();
  });
}

void Network::after_events(HostId host, std::function<void()> callback) {
  hosts_[host]->after_events = std::move(callback);
}

void Network::run_on(HostId host, Duration delay, std::function<void()> event) {
  world_.after(delay, [this, host, life = hosts_[host]->life, event = std::move(event)] {
    deliver(host, life, event);
  });
}

void Network::kill(HostId host) {
  Host& node = *hosts_[host];
  node.alive = false;
  node.endpoint = nullptr;
  const auto connections = connections_;
  for (const auto& connection : connections) {
    if (connection->dialler == host || host == kListener) close(connection, host, "process ended");
  }
}

void Network::freeze(HostId host) { hosts_[host]->frozen = true; }

void Network::thaw(HostId host) {
  Host& node = *hosts_[host];
  node.frozen = false;
  for (auto& event : std::exchange(node.backlog, {})) {
    world_.after({}, [this, host, life = node.life, event = std::move(event)] {
      deliver(host, life, event);
    });
  }
}

// Connections.

void Network::dial(HostId host) {
  Host& node = *hosts_[host];
  const Duration there = world_.between(node.to_listener.min_delay, node.to_listener.max_delay);
  if (node.to_listener.cut || node.from_listener.cut) {
    return world_.after(kConnectTimeout, [this, host, life = node.life] {
      tell(host, life, [this, host] {
        Endpoint* const endpoint = hosts_[host]->endpoint;
        if (endpoint == nullptr || !endpoint->is_running()) return;
        if (endpoint->events().peer_down) {
          endpoint->events().peer_down(kListenerPeer, gone("no answer"));
        }
      });
    });
  }
  world_.after(there, [this, host, life = node.life] { open(host, life); });
}

void Network::open(HostId host, uint64_t life) {
  const Endpoint* const dialler = hosts_[host]->endpoint;
  if (dialler == nullptr || dialler->life() != life || !dialler->is_running()) return;
  const Endpoint* const listener = hosts_[kListener]->endpoint;
  if (listener == nullptr || !listener->is_running()) {
    return tell(host, life, [dialler] {
      if (dialler->events().peer_down) dialler->events().peer_down(kListenerPeer, gone("refused"));
    });
  }
  auto connection = std::make_shared<Connection>();
  connection->dialler = host;
  connection->dialler_life = life;
  connection->listener_life = listener->life();
  connection->peer_at_listener = PeerId(next_peer_++);
  connections_.push_back(connection);
  const Hello theirs = dialler->hello(), ours = listener->hello();
  const Duration back =
      world_.between(hosts_[host]->from_listener.min_delay, hosts_[host]->from_listener.max_delay);
  // What the listener says at once must not overtake its hello.
  connection->last_arrival[0] = world_.now() + back;
  world_.after(back,
               [=, this] { tell(host, life, [=, this] { greet(host, kListenerPeer, ours); }); });
  tell(kListener, listener->life(),
       [=, this] { greet(kListener, connection->peer_at_listener, theirs); });
}

void Network::greet(HostId host, PeerId peer, const Hello& hello) {
  const Endpoint* const endpoint = hosts_[host]->endpoint;
  if (endpoint == nullptr || !find(host, peer)) return;
  if (endpoint->events().peer_up) endpoint->events().peer_up(peer, hello);
}

std::shared_ptr<Network::Connection> Network::find(HostId host, PeerId peer) const {
  for (const auto& connection : connections_) {
    const bool matches = host == kListener ? connection->peer_at_listener == peer
                                           : connection->dialler == host && peer == kListenerPeer;
    if (matches && connection->open[host == kListener]) return connection;
  }
  return nullptr;
}

/// One message on its way.
void Network::carry(const std::shared_ptr<Connection>& connection, bool to_listener,
                    std::function<void()> arrival) {
  const LinkFaults& faults = faults_of(*connection, to_listener);
  if (faults.cut) {
    connection->held_back[to_listener].push_back(std::move(arrival));
    return;
  }
  if (world_.happens(faults.drop)) return;
  const HostId to = to_listener ? kListener : connection->dialler;
  const uint64_t life = to_listener ? connection->listener_life : connection->dialler_life;
  TimePoint when = world_.now() + world_.between(faults.min_delay, faults.max_delay);
  if (world_.happens(faults.reorder)) {
    when += world_.between({}, std::chrono::milliseconds(5));
  } else {
    when = connection->last_arrival[to_listener] =
        std::max(connection->last_arrival[to_listener], when);
  }
  const size_t copies = world_.happens(faults.duplicate) ? 2 : 1;
  for (size_t i = 0; i < copies; ++i) {
    world_.at(when + i * std::chrono::microseconds(100), [=, this] {
      tell(to, life, [=] {
        if (connection->open[to_listener]) arrival();
      });
    });
  }
}

/// The other end hears of it; when the link is cut, afterwards.
void Network::close(const std::shared_ptr<Connection>& connection, HostId by, const char* why) {
  const bool to_listener = by != kListener;
  if (!std::exchange(connection->open[!to_listener], false)) return;
  if (!connection->open[to_listener]) {
    // Nobody is left to tell, and what is held back may hold its connection.
    for (auto& held_back : connection->held_back) held_back.clear();
    return;
  }
  const auto tell = [=, this] {
    world_.after(world_.between(kMinNotice, kMaxNotice),
                 [=, this] { hear_of_end(connection, to_listener, why); });
  };
  if (faults_of(*connection, to_listener).cut) {
    connection->held_back[to_listener].push_back(tell);
  } else {
    tell();
  }
}

void Network::hear_of_end(const std::shared_ptr<Connection>& connection, bool at_listener,
                          const char* why) {
  const HostId host = at_listener ? kListener : connection->dialler;
  const uint64_t life = at_listener ? connection->listener_life : connection->dialler_life;
  const PeerId peer = at_listener ? connection->peer_at_listener : kListenerPeer;
  tell(host, life, [=, this] {
    const bool was_open = std::exchange(connection->open[at_listener], false);
    const Endpoint* const endpoint = hosts_[host]->endpoint;
    if (was_open && endpoint != nullptr && endpoint->events().peer_down) {
      endpoint->events().peer_down(peer, gone(why));
    }
  });
}

void Network::heal(HostId host) {
  std::erase_if(connections_, [](const auto& c) { return !c->open[0] && !c->open[1]; });
  hosts_[host]->to_listener.cut = hosts_[host]->from_listener.cut = false;
  for (const auto& connection : connections_) {
    if (connection->dialler != host) continue;
    for (const bool to_listener : {false, true}) {
      const TimePoint resumes = world_.now() + world_.between(kMinResume, kMaxResume);
      connection->last_arrival[to_listener] =
          std::max(connection->last_arrival[to_listener], resumes);
      for (auto& arrival : std::exchange(connection->held_back[to_listener], {})) {
        carry(connection, to_listener, std::move(arrival));
      }
    }
  }
}

// Endpoints.

Status Endpoint::send(PeerId to, std::span<const std::byte> header, Payload payload,
                      Completion done) {
  const auto connection = network_.find(host_, to);
  if (!started_ || !connection) return fail(ErrorCode::kUnavailable, "peer {} is not up", to);
  const bool to_listener = host_ != kListener;
  const HostId other = to_listener ? kListener : connection->dialler;
  const PeerId from = to_listener ? connection->peer_at_listener : kListenerPeer;
  std::vector<std::byte> bytes(header.begin(), header.end());
  network_.carry(connection, to_listener,
                 [&network = network_, other, from, bytes = std::move(bytes), payload] {
                   const Endpoint* const endpoint = network.hosts_[other]->endpoint;
                   if (endpoint != nullptr && endpoint->events_.receive) {
                     endpoint->events_.receive(from, bytes, payload);
                   }
                 });
  if (done) done({});
  return {};
}

void Endpoint::stop(const transport::StopOptions&) {
  if (!std::exchange(started_, false)) return;
  if (network_.hosts_[host_]->endpoint == this) network_.hosts_[host_]->endpoint = nullptr;
  const auto connections = network_.connections_;
  for (const auto& connection : connections) {
    if (host_ == kListener || connection->dialler == host_) {
      network_.close(connection, host_, "the other end stopped");
    }
  }
}

}  // namespace pregate::simulation
