// Experts on workers, as an engine sees them.
#pragma once

#include <deque>
#include <unordered_map>

#include "coordinator/dispatch/probe.h"
#include "coordinator/dispatch/reply_times.h"
#include "coordinator/dispatch/row_exchange.h"
#include "coordinator/dispatch/waiter.h"
#include "coordinator/membership/cluster.h"
#include "engine/expert_client.h"

namespace pregate::coordinator {

struct DispatchOptions {
  /// Time that a worker has at most for a batch before a replica is asked instead: a fixed part for
  /// the network and the queue, and so much per row. One that is dead is noticed earlier.
  Duration timeout = std::chrono::seconds(2);
  Duration timeout_per_row = std::chrono::milliseconds(20);
  /// It has less once it is known: so many times what it usually takes, and this at least. To ask
  /// twice costs some rows; a lost packet that TCP sends again twice costs all streams half a
  /// second.
  double patience = 8;
  Duration min_timeout = std::chrono::milliseconds(150);
  /// How long rows may wait for an expert whose holders do not answer.
  Duration expert_wait = std::chrono::seconds(60);
  /// How long an expert may have been held by nobody before rows are given up that need it.
  Duration homeless_grace = std::chrono::milliseconds(50);
  /// Before rows are sent again to a worker that refused them, or after a send that failed.
  Duration retry_after = std::chrono::milliseconds(20);
  /// Have workers send the result of each (row, expert) and add them here in the order of experts:
  /// the same bits whatever the placement, for top_k times the bytes. Otherwise a worker adds what
  /// it holds, and the sums are added here in the order of worker ids.
  bool reproducible = false;
};

/// What it is made of; all of it outlives it.
struct DispatchParts {
  Cluster& cluster;
  const Clock& clock;
  Waiter& waiter;
  compute::Backend& backend;  ///< The engine's.
  DispatchProbe& probe;
  /// The back end's, if the cluster's transport takes payloads from there (NCCL).
  std::shared_ptr<DeviceMemory> device_memory = nullptr;
};

/// One per engine. A batch that a worker does not answer for, because it is lost, silent, late or
/// refuses, goes to replicas. Rows whose experts nobody holds wait for a moment, and as long as
/// others are computed anyway; then combine() returns them. The engine's thread does all of it, in
/// combine(). Once rows have been sent to another worker, an answer of the first is dropped and
/// counted.
class RemoteExperts final : public engine::ExpertClient, private ClusterListener {
 public:
  RemoteExperts(const DispatchParts& parts, const DispatchOptions& options);
  ~RemoteExperts() override;

  Result<engine::DispatchTicket> dispatch(const engine::ExpertBatch& batch) override;
  Result<std::vector<engine::HomelessRow>> combine(engine::DispatchTicket ticket,
                                                   compute::Matrix<float> out) override;
  /// Tells each worker that wants to know of the experts that it holds.
  void expect(const router::Plan& plan, router::LayerTime now) override;
  bool has_homes(const engine::MissingExperts& missing) const override;
  Error missing_error(const engine::MissingExperts& missing) const override;
  void watch_homes(std::function<void()> changed) override;

 private:
  /// Rows that one worker is to answer for.
  struct Part {
    Share share;            // constant
    TimePoint asked_since;  // constant: since when an answer is waited for, whoever is asked
    std::optional<WorkerId> worker;          // that was sent it; none: to be sent
    std::shared_ptr<const Placement> table;  // that sent it there: the worker keeps its promise
    RequestId request;                       // of the latest sending
    TimePoint sent;                          // the latest
    TimePoint act_at;                        // when it is late, or may be sent again
    std::optional<ResendReason> doubt;       // why another worker is to be asked, once there is one
    bool given_up = false;                   // nobody holds its experts: not waited for
    bool answered = false;
    bool replaced = false;       // others have its rows now
    transport::Payload results;  // f32 [rows of the answer, cols]

    bool is_open() const { return !answered && !replaced; }
  };
  /// Decided with the lock, done without: a copy, because the part may lose its worker meanwhile.
  struct Sending {
    Part* part;
    WorkerId worker;
    RequestId request;
  };
  /// A batch between dispatch() and combine().
  struct Call {
    engine::DispatchTicket ticket = 0;
    engine::ExpertBatch batch;
    TimePoint begin;
    std::atomic<size_t> num_awaited{0};  // parts that are open and not given up
    std::atomic<bool> attention{false};  // something happened that combine() must act on
    // Guarded by mutex_; shares are constant.
    std::deque<Part> parts;
    std::shared_ptr<const Placement> table;  // the latest used
    Status status;                           // the first error that ends it
  };

  bool on_reply(WorkerId worker, const protocol::ExpertReply& reply,
                const transport::Payload& payload) override;
  void on_lost(WorkerId worker, const Error& error) override;
  void on_quiet(WorkerId worker) override;
  void on_table_changed() override;
  void take_answer_locked(Call& call, Part& part, const protocol::ExpertReply& reply,
                          const transport::Payload& payload);
  void take_refusal_locked(Call& call, Part& part, const Error& error);
  void end_locked(Call& call, Error error);
  void doubt(WorkerId worker, ResendReason reason);
  void note_missing_locked();
  void tell_locked();

  // The engine's thread.
  Call& find(engine::DispatchTicket ticket);
  Status wait(Call& call);
  void attend(Call& call);
  void attend_locked(Call& call, Part& part, std::vector<Sending>& to_send);
  std::optional<WorkerId> choose_locked(const Call& call, ExpertId expert,
                                        std::optional<WorkerId> except) const;
  void place_locked(Call& call, Part& part, std::vector<Sending>& to_send);
  bool move_locked(Call& call, Part& part, std::vector<Sending>& to_send);
  void replace_locked(Call& call, Part& part, std::vector<Share> shares,
                      std::vector<Sending>& to_send);
  void address_locked(Call& call, Part& part, std::vector<Sending>& to_send);
  void put_off_locked(Call& call, Part& part);
  void check_patience_locked(Call& call, const Part& part);
  void send(const Call& call, const Sending& sending);
  transport::Payload pack(const Call& call, const Sending& sending);
  protocol::ExpertRequest make_request(const Call& call, const Sending& sending) const;
  Duration timeout_of(const Part& part) const;
  Duration timeout_of_locked(const Part& part) const;
  bool is_late_locked(WorkerId worker) const;
  TimePoint next_action_locked(const Call& call) const;
  void forget(engine::DispatchTicket ticket);
  void count(const Call& call, const Part& part);
  std::vector<engine::HomelessRow> homeless_rows(const Call& call) const;
  Status add_up(const Call& call, compute::Matrix<float> out);

  Cluster& cluster_;
  const Clock& clock_;
  Waiter& waiter_;
  const DispatchOptions options_;
  DispatchProbe& probe_;
  engine::DispatchTicket next_ticket_ = 1;  // engine's thread
  RowExchange rows_;                        // engine's thread

  std::mutex mutex_;  // before the cluster's
  std::condition_variable changed_;
  std::unordered_map<engine::DispatchTicket, std::unique_ptr<Call>> calls_;  // guarded by mutex_
  std::unordered_map<RequestId, std::pair<Call*, Part*>> waiting_;           // guarded by mutex_
  /// Guarded by mutex_: workers that did not answer in time, until they answer anything, or then.
  std::unordered_map<WorkerId, TimePoint> late_until_;
  ReplyTimes reply_times_;                        // guarded by mutex_
  std::map<ExpertKey, TimePoint> missing_since_;  // guarded by mutex_: experts that nobody holds
  std::function<void()> homes_changed_;           // guarded by mutex_
};

}  // namespace pregate::coordinator
