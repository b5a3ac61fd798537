// The workers of this coordinator: who is there, what they hold, whether they answer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "compute/types.h"
#include "coordinator/dispatch/probe.h"
#include "coordinator/placement/placement.h"
#include "protocol/codec.h"
#include "transport/transport.h"

namespace pregate::coordinator {

struct ClusterOptions {
  /// A worker's id is its PeerId, for example its MPI rank.
  std::vector<WorkerId> workers;
  std::string model;
  uint64_t model_fingerprint = 0;
  compute::WeightFormat weight_format = compute::WeightFormat::kBf16;
  Duration heartbeat_interval = std::chrono::milliseconds(250);
  /// Silence after which a worker counts as lost: neither MPI nor UCX reports a frozen peer.
  Duration max_silence = std::chrono::seconds(1);
  Duration join_timeout = std::chrono::seconds(60);
  Duration load_timeout = std::chrono::hours(1);
  Duration goodbye_timeout = std::chrono::seconds(3);
};

enum class WorkerState { kMissing, kJoined, kLoading, kReady, kLost, kLeft };

/// A snapshot, for people and metrics.
struct WorkerInfo {
  WorkerId id;
  std::string name;  ///< "worker 2 (host:pid)"; without the brackets before it has joined.
  WorkerState state = WorkerState::kMissing;
  protocol::LoadProgress loading;
  protocol::Ready ready;  ///< Once kReady.
  std::string reason;     ///< Why it is lost.
};

/// Called on the transport's or the liveness thread; must not call back into the cluster except for
/// send(), check() and name_of().
class WorkerListener {
 public:
  virtual ~WorkerListener() = default;
  /// False if the reply belongs to somebody else.
  virtual bool on_reply(WorkerId worker, const protocol::ExpertReply& reply,
                        const transport::Payload& payload) = 0;
  /// The worker will not answer what it was sent.
  virtual void on_lost(WorkerId worker, const Error& error) = 0;
};

/// Thread-safe, except that start() comes first and stop() last.
class Cluster {
 public:
  using Progress = std::function<void(const std::vector<WorkerInfo>&)>;

  /// References outlive the cluster.
  Cluster(transport::Transport& transport, ClusterOptions options, DispatchProbe& probe);
  ~Cluster();

  /// Starts the transport, waits for all workers, gives each its experts and waits until all are
  /// ready; `progress` is called a few times a second meanwhile. Errors name the workers that are
  /// missing or failed: kDeadlineExceeded, kUnavailable or what the worker said. `give_up` ends the
  /// wait early with kCancelled.
  Status start(std::shared_ptr<const Placement> placement, const Progress& progress,
               const std::atomic<bool>& give_up);
  /// Says goodbye to all, waits a bounded time for their answers and stops the transport. See
  /// Transport::needs_hard_exit() for how to leave the process.
  void stop();

  std::shared_ptr<const Placement> placement() const;
  compute::WeightFormat weight_format() const { return options_.weight_format; }
  std::vector<WorkerInfo> workers() const;
  /// kUnavailable with the name of a worker that is lost, if there is one.
  Status health() const;
  /// The same for one worker: whether it can be sent to.
  Status check(WorkerId worker) const;
  std::string name_of(WorkerId worker) const;

  RequestId next_request() { return RequestId(next_request_.fetch_add(1)); }
  Status send(WorkerId worker, const protocol::Bytes& header, transport::Payload payload);
  void add_listener(WorkerListener& listener);
  /// When it returns the listener is not called any more.
  void remove_listener(WorkerListener& listener);

 private:
  struct Member {
    WorkerInfo info;
    TimePoint last_heard;
  };

  transport::Events events();
  void join(WorkerId worker, const transport::Hello& hello);
  void receive(WorkerId worker, std::span<const std::byte> header, transport::Payload payload);
  Status handle(WorkerId worker, std::span<const std::byte> header, transport::Payload payload);
  void route_reply(WorkerId worker, const protocol::ExpertReply& reply,
                   const transport::Payload& payload);
  void lose(WorkerId worker, const Error& error);
  void leave(WorkerId worker);
  void watch(const std::stop_token& stop);
  void check_silence();
  Status wait_for(WorkerState state, Duration timeout, const Progress& progress,
                  const std::atomic<bool>& give_up);
  Status first_failure_locked() const;
  std::string missing_locked(WorkerState state) const;
  void assign();
  bool is_member(WorkerId worker) const { return members_.contains(worker); }

  transport::Transport& transport_;
  const ClusterOptions options_;
  DispatchProbe& probe_;
  const Clock& clock_ = system_clock();
  std::atomic<uint64_t> next_request_{1};
  std::atomic<bool> stopping_{false};

  mutable std::mutex mutex_;  // after listeners_mutex_ where both are held
  std::condition_variable changed_;
  std::map<WorkerId, Member> members_;          // keys constant, values guarded by mutex_
  std::shared_ptr<const Placement> placement_;  // guarded by mutex_

  std::mutex listeners_mutex_;
  std::vector<WorkerListener*> listeners_;  // guarded by listeners_mutex_

  bool started_ = false;  // the thread that calls start() and stop()
  std::jthread watcher_;
};

}  // namespace pregate::coordinator
