// What every transport must do, as programs that each process of a small cluster runs: as threads
// over inproc (inproc_test.cc) and as ranks under mpirun (mpi_main.cc). A new transport runs the
// same list.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "transport/transport.h"

namespace pregate::transport {

inline constexpr uint32_t kNumNodes = 3;

/// One process of the cluster under test. Records what its transport calls back.
class Node {
 public:
  /// `die` ends this process, or looks like it, without a word to anyone. `drives`: it does its
  /// transport's work itself while it waits.
  Node(std::unique_ptr<Transport> transport, std::function<void()> die, bool drives = false)
      : transport_(std::move(transport)), die_(std::move(die)), drives_(drives) {}
  ~Node() { stop(false); }

  struct Received {
    PeerId from;
    std::vector<std::byte> header;
    Payload payload;
  };

  uint32_t id() const { return transport_->self().value; }
  Transport& transport() { return *transport_; }
  void die() { die_(); }

  void start(uint32_t version = 1);
  /// Connects to the nodes of lower id and waits until all are up.
  Status open();
  Status wait_up(PeerId peer);
  Status wait_down(PeerId peer);

  Status send(PeerId to, std::span<const std::byte> header, Payload payload);
  /// The next message, waiting for it.
  Result<Received> receive();
  /// Waits until all sends accepted so far have completed; the number that did not succeed.
  Result<size_t> wait_sent();
  /// Tells every other node in `others` "here" and waits for the same from them.
  Status meet(const std::vector<uint32_t>& others);
  /// While closed, the thread that receives is held up in its callback.
  void close_gate();
  /// Until a message has come so far.
  void wait_at_gate();
  void open_gate();
  bool stop(bool peers_lost);

 private:
  Events events();
  void on_receive(PeerId from, std::span<const std::byte> header, Payload payload);
  Status wait(const std::string& what, const std::function<bool()>& done);
  void drive(TimePoint until, const std::function<bool()>& done);

  std::unique_ptr<Transport> transport_;
  const std::function<void()> die_;
  const bool drives_;
  bool stopped_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Received> received_;  // all below guarded by mutex_
  std::vector<uint32_t> arrived_;  // who has said "here", as often as it did
  std::vector<PeerId> up_, down_;
  size_t num_sends_ = 0, num_completed_ = 0, num_failed_ = 0;
  size_t num_at_gate_ = 0;
  bool gate_open_ = true;
};

struct Scenario {
  std::string name;
  Status (*run)(Node&);
  size_t max_in_flight_bytes = kDefaultInFlightBytes;
  /// Nodes that reach the end; the others die.
  uint32_t num_survivors = kNumNodes;
};

const std::vector<Scenario>& scenarios();

/// Each node by a thread of its own; what each came to.
std::vector<Status> run_all(const Scenario& scenario, std::span<const std::unique_ptr<Node>> nodes);

}  // namespace pregate::transport
