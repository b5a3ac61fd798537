// A simulated network in the shape of a star: one host listens, the others dial it, as with UCX.
// Hosts can be killed and frozen, links cut and made worse than any real transport: messages that
// vanish, come twice or out of order.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "tests/simulation/world.h"
#include "transport/transport.h"

namespace pregate::simulation {

class Endpoint;  // network.cc

/// 0 listens.
using HostId = size_t;

/// What a link does to messages of one direction.
struct LinkFaults {
  Duration min_delay = std::chrono::microseconds(50);
  Duration max_delay = std::chrono::microseconds(300);
  double drop = 0;       ///< Probability that a message vanishes.
  double duplicate = 0;  ///< That it comes twice.
  double reorder = 0;    ///< That it is overtaken by what is sent in the next milliseconds.
  bool cut = false;      ///< Nothing gets through; what was sent comes after the cut, as with TCP.
};

class Network {
 public:
  Network(World& world, size_t num_hosts);
  ~Network();

  /// The network of a process that starts on this host now.
  std::unique_ptr<transport::Transport> attach(HostId host);

  /// Its process ends without a word: the kernel tells those it was connected to.
  void kill(HostId host);
  /// Nothing runs on it until thaw(); what arrives waits.
  void freeze(HostId host);
  void thaw(HostId host);
  bool is_frozen(HostId host) const;

  LinkFaults& to_listener(HostId host);
  LinkFaults& from_listener(HostId host);
  /// Ends cuts in both directions and delivers what was held back.
  void heal(HostId host);

  /// Runs an event of the host's present process, unless it has ended by then; when it is frozen,
  /// afterwards.
  void run_on(HostId host, Duration delay, std::function<void()> event);
  /// Called after the transport has told the host's present process something.
  void after_events(HostId host, std::function<void()> callback);

 private:
  friend class Endpoint;
  struct Host;
  struct Connection;

  void deliver(HostId host, uint64_t life, std::function<void()> event);
  /// The same, followed by the callback of after_events().
  void tell(HostId host, uint64_t life, std::function<void()> event);
  void dial(HostId host);
  void open(HostId host, uint64_t life);
  void carry(const std::shared_ptr<Connection>& connection, bool to_listener,
             std::function<void()> arrival);
  void close(const std::shared_ptr<Connection>& connection, HostId by, const char* why);
  void hear_of_end(const std::shared_ptr<Connection>& connection, bool at_listener,
                   const char* why);
  void greet(HostId host, transport::PeerId peer, const transport::Hello& hello);
  std::shared_ptr<Connection> find(HostId host, transport::PeerId peer) const;
  LinkFaults& faults_of(const Connection& connection, bool to_listener);

  World& world_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<std::shared_ptr<Connection>> connections_;
  uint32_t next_peer_ = 1000;
};

}  // namespace pregate::simulation
