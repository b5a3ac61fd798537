// The workers of this coordinator, live: connections, handshakes, heartbeats, who holds what, and
// the table to dispatch by. Decides with pure functions (membership.h, holdings.h, ../placement/),
// and carries out what they say.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/random.h"
#include "compute/types.h"
#include "coordinator/membership/holdings.h"
#include "coordinator/membership/membership.h"
#include "coordinator/membership/probe.h"
#include "coordinator/placement/balancer.h"
#include "coordinator/placement/load_meter.h"
#include "protocol/codec.h"
#include "protocol/handshake.h"
#include "transport/transport.h"

namespace pregate::coordinator {

struct ClusterOptions {
  PlacementShape shape;
  std::string model;  ///< For messages.
  uint64_t model_fingerprint = 0;
  compute::WeightFormat weight_format = compute::WeightFormat::kBf16;
  protocol::Secret secret;
  MembershipOptions membership;
  BalancerOptions balancer;
  /// Nothing is placed before so many have joined.
  size_t min_workers = 1;
  /// Instead of a planned one, until an operator says otherwise.
  std::shared_ptr<const Placement> placement;
  /// How fast each worker may load what nobody waits for. 0: no limit.
  uint64_t rebalance_bytes_per_second = 0;
  Duration heartbeat_interval = std::chrono::milliseconds(250);
  /// From peer_up to a good Join.
  Duration handshake_timeout = std::chrono::seconds(5);
  size_t max_handshakes = 64;  ///< At once.
  /// A message that no heartbeat confirms is sent again after so long.
  Duration resend_after = std::chrono::milliseconds(500);
  Duration goodbye_timeout = std::chrono::seconds(3);
  /// Whether stop() ends the workers too. Else they keep what they hold, and join whoever listens
  /// next at the same address.
  bool dismiss_at_stop = true;
};

/// Experts that fit into a worker's memory.
inline size_t room_of(const protocol::Capacity& capacity) {
  return capacity.expert_bytes == 0 ? 0 : capacity.memory_bytes / capacity.expert_bytes;
}

/// A snapshot, for people and metrics.
struct WorkerInfo {
  Member member;
  size_t num_held = 0;      ///< Experts.
  size_t num_assigned = 0;  ///< Experts it was told to hold.
  uint64_t held_bytes = 0;
  uint32_t queue_depth = 0;  ///< As of its last heartbeat.
};

struct ClusterInfo {
  uint64_t table_version = 0;
  uint64_t target_version = 0;
  size_t num_experts = 0;     ///< Over all layers.
  size_t num_missing = 0;     ///< Held by nobody alive.
  size_t num_unanswered = 0;  ///< Held by suspects only.
  std::vector<WorkerInfo> workers;
};

/// Called by the transport or on the ticking thread; must not call back into the cluster but for
/// send(), table() and title_of().
class ClusterListener {
 public:
  virtual ~ClusterListener() = default;
  /// False if the reply belongs to somebody else.
  virtual bool on_reply(WorkerId worker, const protocol::ExpertReply& reply,
                        const transport::Payload& payload) = 0;
  /// The worker will not answer what it was sent.
  virtual void on_lost(WorkerId worker, const Error& error) = 0;
  /// It may not: it has been silent for a moment. See Cluster::answers().
  virtual void on_quiet(WorkerId worker) = 0;
  /// There is another table().
  virtual void on_table_changed() = 0;
};

/// Thread-safe, except that start() comes first and stop() last. Time passes in tick() only.
class Cluster {
 public:
  /// References outlive the cluster.
  Cluster(transport::Transport& transport, const Clock& clock, ClusterOptions options,
          ClusterProbe& probe);
  ~Cluster();

  /// Starts the transport. Workers may join from now on.
  void start();
  /// Heartbeats, silence, handshakes that take too long, balancing. To be called every few tens of
  /// milliseconds, by one thread.
  void tick();
  /// Says goodbye to all, waits a bounded time for their answers and stops the transport. See
  /// Transport::needs_hard_exit() for how to leave the process.
  void stop();

  /// Whether every expert is held by a live worker that is not suspect. kUnavailable: how many are
  /// not, and why.
  Status health() const;
  /// Waits for health(), at most so long; `progress` is called a few times a second meanwhile.
  /// `give_up` ends the wait early with kCancelled. kDeadlineExceeded says what is missing.
  Status wait_until_whole(Duration timeout, const std::function<void(const ClusterInfo&)>& progress,
                          const std::atomic<bool>& give_up) const;

  /// The table to dispatch by. As long as a caller keeps it, the workers keep what it promises.
  std::shared_ptr<const Placement> table() const;
  ClusterInfo info() const;
  /// "worker-1 (host:pid)".
  std::string title_of(WorkerId worker) const;
  /// Whether it was heard within one and a half heartbeats. To ask another one costs little, so
  /// dispatch gives a worker up long before membership suspects it and experts are loaded
  /// elsewhere. Takes no lock: dispatch asks for each expert.
  bool answers(WorkerId worker) const;

  RequestId next_request() { return RequestId(next_request_.fetch_add(1)); }
  /// kUnavailable if it has no connection.
  Status send(WorkerId worker, const protocol::Bytes& header, transport::Payload payload);
  /// The same for a caller that drives the transport next: see Transport::queue().
  Status queue(WorkerId worker, const protocol::Bytes& header, transport::Payload payload);
  /// As Transport::takes_tail().
  bool takes_tail(WorkerId worker, size_t tail_bytes) const;
  /// The workers that are connected and want plans.
  std::vector<WorkerId> plan_readers() const;
  void add_listener(ClusterListener& listener);
  /// When it returns the listener is not called any more.
  void remove_listener(ClusterListener& listener);
  /// Rows are counted here by whoever dispatches.
  LoadMeter& loads() { return loads_; }
  const PlacementShape& shape() const { return options_.shape; }
  compute::WeightFormat weight_format() const { return options_.weight_format; }

  // What operators may do.

  /// kNotFound: no worker of this name.
  Result<WorkerId> find(std::string_view name) const;
  /// Its experts go elsewhere, then it is told to end. kInvalidArgument if it is dead.
  Status drain(WorkerId worker);
  /// Now, with all that it holds, dead or alive.
  Status remove(WorkerId worker);
  /// What the balancer aims at.
  std::shared_ptr<const Placement> target() const;
  /// Aims at this from now on, until the balancer finds better (freeze it to keep it).
  /// kInvalidArgument: an expert is nowhere, or a worker is not there or has not the room.
  Status set_target(const Placement& placement);
  BalancerState balancer() const;
  void freeze_balancer(bool frozen);

 private:
  struct Connection {
    protocol::Nonce nonce{};  // of our challenge
    TimePoint since;
    uint64_t incarnation = 0;
    std::optional<WorkerId> worker;  // once it has joined
    std::optional<protocol::Refusal> refusal;
  };
  /// What the cluster knows of a worker besides its membership.
  struct Remote {
    transport::PeerId peer;
    bool connected = false;
    bool quiet = false;     // as of the last tick
    ExpertSet held;         // without what it was told to drop
    ExpertSet ordered_out;  // that, until it has the latest assignment
    uint64_t held_bytes = 0;
    uint64_t revision = 0;         // of `held`
    bool has_reported = false;     // held is of this incarnation
    uint64_t heard_beat = 0;       // of this connection
    uint64_t assignment = 0;       // the latest sent
    uint64_t seen_assignment = 0;  // the latest that the worker says it has
    bool limited = false;          // the latest sent has a rate limit
    ExpertSet assigned;
    std::vector<protocol::ExpertRange> ranges;  // the same, in the order of loading
    TimePoint assigned_at;
    uint32_t queue_depth = 0;
  };
  /// What a worker is to hold next.
  struct Order {
    std::vector<protocol::ExpertRange> ranges;  // in the order of loading
    ExpertSet experts;                          // the same
    size_t num_to_load = 0;
    bool urgent = false;  // requests wait for some of it
  };
  /// What listeners are told once the lock is gone.
  struct News {
    std::vector<std::pair<WorkerId, Error>> lost;
    std::vector<WorkerId> quiet;
    bool table_changed = false;
  };

  // From the transport.
  transport::Events events();
  void greet(transport::PeerId peer, const transport::Hello& hello);
  void part(transport::PeerId peer, const Error& error);
  void receive(transport::PeerId peer, std::span<const std::byte> header,
               const transport::Payload& payload);
  void route_reply(WorkerId worker, const protocol::ExpertReply& reply,
                   const transport::Payload& payload);
  void tell(const News& news);
  void dismiss_all(std::unique_lock<std::mutex>& lock, bool peers_lost);

  // With the lock held. Who changes something calls refresh_locked() last.
  Result<std::optional<protocol::ExpertReply>> handle_locked(transport::PeerId peer,
                                                             std::span<const std::byte> header,
                                                             const transport::Payload& payload,
                                                             News& news);
  void join_locked(transport::PeerId peer, const protocol::Join& join, News& news);
  std::optional<std::pair<JoinRefusal, Error>> check_join_locked(const Connection& connection,
                                                                 const protocol::Join& join) const;
  void admit_locked(transport::PeerId peer, const protocol::Join& join,
                    const effect::Admit& admitted, News& news);
  void welcome_locked(transport::PeerId peer, const protocol::Join& join);
  void refuse_locked(transport::PeerId peer, JoinRefusal why, const protocol::Refusal& refusal);
  void hear_refused_locked(transport::PeerId peer, std::span<const std::byte> header);
  void reject_locked(transport::PeerId peer, const Error& error, News& news);
  void take_holdings_locked(WorkerId worker, const protocol::Holdings& holdings, News& news);
  void take_heartbeat_locked(WorkerId worker, const protocol::Heartbeat& heartbeat, News& news);
  std::vector<MembershipEffect> apply_locked(const MembershipEvent& event, News& news);
  void note_change_locked(const effect::Changed& change, News& news);
  void disconnect_locked(WorkerId worker);
  void part_locked(transport::PeerId peer, News& news);
  void forget_locked(WorkerId worker);
  void end_slow_handshakes_locked();
  void note_quiet_locked(News& news);
  void note_heard_locked();
  void beat_locked();
  void refresh_locked(News& news);
  void publish_table_locked(News& news);
  void note_availability_locked();
  void assign_locked(News& news);
  Order order_locked(WorkerId worker,
                     std::span<const std::shared_ptr<const Placement>> tables) const;
  void give_locked(WorkerId worker, Remote& remote, Order order);
  void send_assignment_locked(WorkerId worker, Remote& remote);
  void dismiss_drained_locked(News& news);
  void balance_locked();
  BalancerInput balancer_input_locked();
  void note_balance_locked(const BalancerEffect& effect);
  Status check_target_locked(const Placement& placement) const;
  bool has_target_locked() const;
  const Placement& target_locked() const;
  Holdings holdings_locked() const;
  std::vector<std::shared_ptr<const Placement>> tables_in_use_locked() const;
  ClusterInfo info_locked() const;
  Status health_locked() const;
  Result<transport::PeerId> peer_of(WorkerId worker) const;
  Status send_locked(WorkerId worker, const protocol::Bytes& header, transport::Payload payload);

  Status operate(WorkerId worker, const MembershipEvent& event,
                 const std::function<Status(const Member&)>& check);

  transport::Transport& transport_;
  const Clock& clock_;
  const ClusterOptions options_;
  ClusterProbe& probe_;
  LoadMeter loads_;
  std::atomic<uint64_t> next_request_{1};
  /// By worker id: until when it answers if nothing more is heard, as the clock counts. 0: it does
  /// not. Written with the lock, read without.
  std::vector<std::atomic<Duration::rep>> answers_until_;
  std::atomic<bool> stopping_{false};
  bool started_ = false;  // the thread that calls start() and stop()

  mutable std::mutex mutex_;  // after listeners_mutex_ where both are held
  mutable std::condition_variable changed_;
  // Guarded by mutex_.
  std::map<transport::PeerId, Connection> connections_;
  std::deque<protocol::Proof> accepted_proofs_;  // the latest, to tell a replay by
  Members members_;
  std::map<WorkerId, Remote> remotes_;
  BalancerState balancer_;
  const Placement no_target_;
  std::shared_ptr<const Placement> table_;
  std::vector<std::weak_ptr<const Placement>> older_tables_;
  ExpertSet missing_;     // of table_
  ExpertSet waited_for_;  // these, and those of table_ that only suspects hold
  bool dirty_ = false;    // something changed on which the table and the assignments depend
  uint64_t last_assignment_ = 0;
  TimePoint last_beat_, last_tick_;
  uint64_t num_beats_ = 0;
  uint64_t num_refusals_logged_ = 0;

  std::mutex listeners_mutex_;
  std::vector<ClusterListener*> listeners_;  // guarded by listeners_mutex_
};

}  // namespace pregate::coordinator
