// Experts of which only a part is in memory, within a budget.
//
// What a batch needs is loaded on demand; what plans say will be needed is prefetched meanwhile. A
// plan only ever moves data: without one, or with a wrong one, the results are the same.
//
// The tier below is whatever `read` reads from. A tier above, such as a GPU's memory, would be
// another cache whose `read` leases an expert from this one and copies it.
#pragma once

#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "worker/experts/cache/eviction.h"
#include "worker/experts/cache/probe.h"
#include "worker/experts/read_expert.h"

namespace pregate::worker {

struct CacheOptions {
  uint64_t memory_bytes = 0;  ///< For experts held and experts being loaded, always.
  uint64_t expert_bytes = 0;  ///< What the largest expert takes.
  /// Less likely guesses are not prefetched, only kept if they are there: a load in vain costs as
  /// much as one that saves a wait, and another expert's place.
  float min_likelihood = 0.5f;
  size_t max_retries = 3;  ///< Of a load that failed with kUnavailable.
  Duration retry_pause = std::chrono::milliseconds(20);  ///< Twice as long each time.
};

/// Thread-safe.
class ExpertCache {
 public:
  using Expert = std::unique_ptr<const compute::PackedExpert>;

  /// An expert of a lease: the `index`-th that was asked for.
  struct Leased {
    size_t index = 0;
    const compute::PackedExpert* expert = nullptr;
  };

  /// The experts of one batch. Used by one thread, which has no other one meanwhile (two
  /// could wait for each other's memory), and gone before the cache is.
  class Lease;

  /// One loading thread for each of `readers`, which is the only one to call it. `clock` and
  /// `probe` outlive the cache. Error: kInvalidArgument if not even one expert fits the memory.
  static Result<std::unique_ptr<ExpertCache>> create(std::vector<ReadExpert> readers,
                                                     std::unique_ptr<EvictionPolicy> policy,
                                                     const CacheOptions& options,
                                                     const Clock& clock, CacheProbe& probe);
  /// Waits for loads under way.
  ~ExpertCache();

  /// Asks for the experts of a batch, each once, which is computed at time `now`; returns at once.
  /// Those that are held stay until the lease has gone on from them; the others are loaded before
  /// anything else. `now` never goes back; 0 throughout where there are no plans.
  std::unique_ptr<Lease> acquire(std::vector<ExpertKey> keys, router::LayerTime now);

  /// Prefetches what is planned, nearest first, as far as it can without evicting anything that is
  /// needed sooner. Guesses whose time has passed are forgotten.
  void expect(const router::Plan& plan, router::LayerTime now);

  CacheCounters counters() const;
  std::string_view policy() const { return policy_->name(); }

 private:
  struct Held {
    Expert expert;
    size_t num_users = 0;  // leases that compute with it, or are about to
    bool unused = false;   // prefetched
  };
  struct Job {
    ExpertKey key;
    LoadCause cause = LoadCause::kDemand;
    size_t bytes = 0;  // set aside
  };
  /// Why an expert is not there yet.
  struct Failure {
    size_t attempts = 0;
    TimePoint retry_at;  // max: when it is demanded
  };

  ExpertCache(std::unique_ptr<EvictionPolicy> policy, const CacheOptions& options,
              const Clock& clock, CacheProbe& probe);

  void load_until(const std::stop_token& stop, const ReadExpert& read);
  void wait_for_work(TimePoint now, std::unique_lock<std::mutex>& lock,
                     const std::stop_token& stop);
  void load(const Job& job, const ReadExpert& read, std::unique_lock<std::mutex>& lock);

  // All of these with mutex_ held.
  std::optional<Job> next_job(TimePoint now, std::vector<Expert>& evicted);
  std::optional<Job> next_demand(TimePoint now, std::vector<Expert>& evicted);
  std::optional<Job> next_prefetch(TimePoint now, std::vector<Expert>& evicted);
  std::optional<Job> start(const ExpertKey& key, LoadCause cause);
  bool is_resting(const ExpertKey& key, TimePoint now) const;
  bool make_room(size_t bytes, std::optional<double> needed_in, std::vector<Expert>& evicted);
  std::vector<ExpertKey> evictable(std::optional<double> needed_in) const;
  Expert evict(const ExpertKey& key);
  size_t bytes_of(const ExpertKey& key) const;
  void keep(const Job& job, Expert expert);
  void note_failure(const Job& job, Error error);
  void demand(const ExpertKey& key);
  bool is_wanted(const ExpertKey& key) const;
  void something_changed();

  const std::unique_ptr<EvictionPolicy> policy_;
  const CacheOptions options_;
  const Clock& clock_;
  CacheProbe& probe_;

  mutable std::mutex mutex_;
  std::condition_variable_any work_;  // for the loading threads
  std::condition_variable arrival_;   // for the leases
  // Guarded by mutex_.
  uint64_t revision_ = 0;  // of what a loading thread looks at
  KnownUses uses_;
  std::map<ExpertKey, Held> held_;
  std::map<ExpertKey, size_t> sizes_;  // of all that were ever loaded
  std::map<ExpertKey, LoadCause> loading_;
  std::deque<ExpertKey> demands_;  // to load, in the order they came
  std::map<ExpertKey, Failure> failures_;
  std::list<Lease*> leases_;
  CacheCounters counters_;

  std::vector<std::jthread> loaders_;
};

class ExpertCache::Lease {
 public:
  Lease(ExpertCache& cache, std::vector<ExpertKey> keys, router::LayerTime now);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  /// Gives the experts of the call before back, and returns more: first all that were held when
  /// they were asked for, then what has arrived since, for which it waits. Empty when all were
  /// given. kUnavailable, naming the expert, when one cannot be loaded.
  Result<std::vector<Leased>> next();
  size_t num_missing() const { return num_missing_; }  ///< When they were asked for.

 private:
  friend class ExpertCache;

  // With the cache's mutex_ held.
  void arrived(const ExpertKey& key, Held& held);
  void failed(const ExpertKey& key, const Error& error);
  void give_back(std::vector<size_t>& indices);

  ExpertCache& cache_;
  const std::vector<ExpertKey> keys_;
  size_t num_missing_ = 0;
  Duration waited_{};
  // Guarded by the cache's mutex_.
  std::map<ExpertKey, size_t> missing_;  // to their index
  std::vector<size_t> ready_, given_;    // indices; used by this lease
  std::optional<Error> error_;
};

}  // namespace pregate::worker
