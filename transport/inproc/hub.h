// A transport between threads of one process: for one-process clusters, tests and simulation.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "transport/transport.h"

namespace pregate::transport {

class InprocEndpoint;

/// Connects the endpoints attached to it. Outlives them. Thread-safe.
class InprocHub {
 public:
  explicit InprocHub(size_t max_in_flight_bytes = kDefaultInFlightBytes);
  ~InprocHub();

  /// An endpoint with its own delivery thread. After one has stopped, its id can be attached again:
  /// that is another incarnation.
  std::unique_ptr<Transport> attach(PeerId self);

  /// From now on nothing goes to or comes from this peer, and nobody is told: what the others of an
  /// MPI job see when a process is killed or frozen, or a cable is pulled.
  void cut(PeerId peer);

 private:
  friend class InprocEndpoint;
  struct Event;
  struct Inbox;

  bool post(PeerId from, PeerId to, Event event);
  void detach(PeerId self);
  std::vector<PeerId> others(PeerId self) const;

  const size_t max_in_flight_bytes_;
  mutable std::mutex mutex_;
  std::map<PeerId, std::shared_ptr<Inbox>> inboxes_;  // guarded by mutex_
  std::set<PeerId> cut_;                              // guarded by mutex_
};

}  // namespace pregate::transport
