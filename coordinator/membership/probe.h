// What the cluster tells about itself. Metrics are bound to it where the process is put together.
#pragma once

#include <cstddef>
#include <vector>

#include "base/clock.h"
#include "coordinator/membership/membership.h"

namespace pregate::coordinator {

/// Why a connection was not let in.
enum class JoinRefusal {
  kWrongSecret,
  kReplayed,    ///< What another connection said, word for word.
  kOtherModel,  ///< Checkpoint or weight format.
  kNameTaken,
  kTooMany,     ///< Workers, or handshakes at once.
  kNoAnswer,    ///< Silent, or gone, before it had joined.
  kBadMessage,  ///< Bytes that no worker sends.
};
std::string_view to_string(JoinRefusal refusal);

/// Does nothing; override what is of interest. Called from several threads: thread-safe.
class ClusterProbe {
 public:
  virtual ~ClusterProbe() = default;
  /// A worker joined, or changed its state.
  virtual void worker_changed(const Member&) {}
  /// A worker is not listed any more.
  virtual void worker_forgotten(WorkerId) {}
  /// So many requests wait there.
  virtual void heartbeat_received(WorkerId, size_t /*queue_depth*/) {}
  /// What it holds now.
  virtual void worker_holds(WorkerId, size_t /*experts*/, size_t /*bytes*/) {}
  virtual void join_refused(JoinRefusal) {}
  /// An answer that nobody waits for any more, or for the second time.
  virtual void late_reply(WorkerId) {}
  /// A table was published, in which so many experts have [n] replicas.
  virtual void table_changed(uint64_t /*version*/,
                             const std::vector<size_t>& /*experts_by_replicas*/) {}
  /// So many experts are held by suspects only.
  virtual void experts_unanswered(size_t /*experts*/) {}
  /// A rebalance ended: "finished", "stalled" or "superseded".
  virtual void rebalanced(std::string_view /*outcome*/, Duration, size_t /*moved_experts*/) {}
  /// As of now: the busiest worker's share of the load over what is its due.
  virtual void imbalance(double) {}
  /// A rebalance is under way, with so many replicas still to load.
  virtual void rebalance_left(size_t /*replicas*/) {}
};

}  // namespace pregate::coordinator
