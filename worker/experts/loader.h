// Makes the experts held what the coordinator assigned, while the others are served.
//
// Never more is in memory than was announced: an expert that does not fit waits until others are
// dropped. As an expert is dropped only when its next holder has it, full workers may wait for each
// other; then the coordinator assigns something else (coordinator/placement/balancer.h).
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "base/clock.h"
#include "worker/experts/read_expert.h"
#include "worker/experts/store.h"
#include "worker/probe.h"

namespace pregate::worker {

/// One thread calls step(); all else is thread-safe.
class ExpertLoader {
 public:
  /// `announced`: the bound on memory, and what an expert takes. The latter three outlive the
  /// loader.
  ExpertLoader(ReadExpert read, const protocol::Capacity& announced, ExpertStore& store,
               const Clock& clock, Probe& probe);

  /// Supersedes the assignment before, unless it is older or the same.
  void assign(const protocol::AssignExperts& assignment);
  /// A connection begins. Assignments of another life of the coordinator are numbered anew; what
  /// is held stays, and is to be reported anew in any case.
  void begin_session(uint64_t coordinator_incarnation);

  /// Drops what is not assigned, or loads one expert. Returns when to call it again; TimePoint::max
  /// if only a new assignment gives it something to do.
  TimePoint step();

  struct State {
    uint64_t assignment = 0;  ///< The latest received.
    uint64_t revision = 0;    ///< Grows with each change of what holdings() says.
    bool complete = false;    ///< The assignment is loaded, and all else dropped.
  };
  State state() const;
  protocol::Holdings holdings() const;
  /// Set when an expert could not be loaded often enough to give up; nothing is loaded any more.
  std::optional<Error> failure() const;

 private:
  struct Wanted {
    std::vector<ExpertKey> order;
    std::set<ExpertKey> keys;
    uint64_t bytes_per_second = 0;
  };
  /// Why an expert is not there yet.
  struct Attempts {
    size_t count = 0;
    TimePoint retry_at;
  };

  void adopt_latest();
  std::optional<TimePoint> wait_for_room();
  void note_waiting(size_t num_experts);
  TimePoint wait_for(const ExpertKey& key) const;
  void load(const ExpertKey& key);
  void keep(const ExpertKey& key, std::unique_ptr<compute::PackedExpert> expert);
  void note_failure(const ExpertKey& key, Error error);
  void note_completion();
  State state_locked() const;

  const ReadExpert read_;
  const uint64_t memory_bytes_, expert_bytes_;
  ExpertStore& store_;
  const Clock& clock_;
  Probe& probe_;

  // The thread of step().
  std::shared_ptr<const Wanted> adopted_;
  std::deque<ExpertKey> pending_;
  std::map<ExpertKey, Attempts> failures_;
  TimePoint last_load_;
  size_t last_bytes_ = 0;
  size_t num_waiting_ = 0;         // for room
  bool has_told_to_wait_ = false;  // in the log, since it last held all it was to

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::shared_ptr<const Wanted> wanted_ = std::make_shared<Wanted>();
  std::shared_ptr<const Wanted> completed_;
  uint64_t assignment_ = 0;
  uint64_t coordinator_ = 0;  // its incarnation
  uint64_t revision_ = 0;
  std::optional<Error> failure_;
};

}  // namespace pregate::worker
