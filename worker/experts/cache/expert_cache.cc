#include "worker/experts/cache/expert_cache.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace pregate::worker {
namespace {

/// So many guesses without room are looked at for one that weighs more.
constexpr size_t kMaxGuesses = 64;

std::string name_of(const ExpertKey& key) {
  return fmt::format("layer {} expert {}", key.first, key.second);
}

}  // namespace

Result<std::unique_ptr<ExpertCache>> ExpertCache::create(std::vector<ReadExpert> readers,
                                                         std::unique_ptr<EvictionPolicy> policy,
                                                         const CacheOptions& options,
                                                         const Clock& clock, CacheProbe& probe) {
  PREGATE_CHECK(!readers.empty() && options.expert_bytes > 0);
  if (options.memory_bytes < options.expert_bytes) {
    return fail(ErrorCode::kInvalidArgument,
                "{} bytes for experts: expected at least {}, which the largest one takes",
                options.memory_bytes, options.expert_bytes);
  }
  std::unique_ptr<ExpertCache> cache(new ExpertCache(std::move(policy), options, clock, probe));
  for (ReadExpert& read : readers) {
    cache->loaders_.emplace_back(
        [cache = cache.get(), read = std::move(read)](const std::stop_token& stop) {
          cache->load_until(stop, read);
        });
  }
  return cache;
}

ExpertCache::ExpertCache(std::unique_ptr<EvictionPolicy> policy, const CacheOptions& options,
                         const Clock& clock, CacheProbe& probe)
    : policy_(std::move(policy)), options_(options), clock_(clock), probe_(probe) {
  counters_.memory_bytes = options.memory_bytes;
  probe_.set_budget(options.memory_bytes);
}

ExpertCache::~ExpertCache() {
  for (std::jthread& loader : loaders_) loader.request_stop();
  loaders_.clear();
  PREGATE_CHECK(leases_.empty());
}

std::unique_ptr<ExpertCache::Lease> ExpertCache::acquire(std::vector<ExpertKey> keys,
                                                         router::LayerTime now) {
  return std::make_unique<Lease>(*this, std::move(keys), now);
}

void ExpertCache::expect(const router::Plan& plan, router::LayerTime now) {
  std::lock_guard lock(mutex_);
  uses_.advance(now);
  uses_.add(plan);
  something_changed();
}

CacheCounters ExpertCache::counters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

void ExpertCache::something_changed() {
  ++revision_;
  work_.notify_all();
}

// The loading threads.

void ExpertCache::load_until(const std::stop_token& stop, const ReadExpert& read) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    std::vector<Expert> evicted;
    const TimePoint now = clock_.now();
    const std::optional<Job> job = next_job(now, evicted);
    if (job) {
      lock.unlock();
      evicted.clear();  // Without the lock: giving memory back takes a while. Before more is taken.
      lock.lock();
      load(*job, read, lock);
    } else {
      wait_for_work(now, lock, stop);
    }
  }
}

/// Until something changes, or one that rested at `now` does not any more.
void ExpertCache::wait_for_work(TimePoint now, std::unique_lock<std::mutex>& lock,
                                const std::stop_token& stop) {
  TimePoint retry_at = TimePoint::max();
  for (const auto& [key, failure] : failures_) {
    if (failure.retry_at > now) retry_at = std::min(retry_at, failure.retry_at);
  }
  const auto has_changed = [this, seen = revision_] { return revision_ != seen; };
  if (retry_at == TimePoint::max()) {
    work_.wait(lock, stop, has_changed);
  } else {
    work_.wait_until(lock, stop, retry_at, has_changed);
  }
}

void ExpertCache::load(const Job& job, const ReadExpert& read, std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  const TimePoint begin = clock_.now();
  auto expert = read(job.key.first, job.key.second);
  const Duration took = clock_.now() - begin;
  lock.lock();
  loading_.erase(job.key);
  counters_.loading_bytes -= job.bytes;
  if (expert) {
    probe_.loaded(job.cause, (*expert)->bytes(), took);
    keep(job, std::move(*expert));
  } else {
    note_failure(job, std::move(expert.error()));
  }
  something_changed();
}

// What to load.

std::optional<ExpertCache::Job> ExpertCache::next_job(TimePoint now, std::vector<Expert>& evicted) {
  // Nothing is prefetched while a batch waits for something that no thread loads yet.
  return demands_.empty() ? next_prefetch(now, evicted) : next_demand(now, evicted);
}

std::optional<ExpertCache::Job> ExpertCache::next_demand(TimePoint now,
                                                         std::vector<Expert>& evicted) {
  const auto next =
      std::ranges::find_if(demands_, [&](const ExpertKey& key) { return !is_resting(key, now); });
  if (next == demands_.end() || !make_room(bytes_of(*next), std::nullopt, evicted)) {
    return std::nullopt;
  }
  const ExpertKey key = *next;
  demands_.erase(next);
  return start(key, LoadCause::kDemand);
}

std::optional<ExpertCache::Job> ExpertCache::next_prefetch(TimePoint now,
                                                           std::vector<Expert>& evicted) {
  size_t num_seen = 0;
  double no_room_at = std::numeric_limits<double>::infinity();
  for (const KnownUses::Use& use : uses_.absent()) {
    const ExpertKey& key = use.key;
    const double distance = uses_.distance(key).value();
    if (use.likelihood < options_.min_likelihood) continue;
    if (loading_.contains(key) || is_resting(key, now) || distance >= no_room_at) continue;
    if (make_room(bytes_of(key), distance, evicted)) return start(key, LoadCause::kPrefetch);
    // Those after what is certain are needed later and find no room either; after an unlikely guess
    // there may be something that weighs more.
    if (use.certain || ++num_seen > kMaxGuesses) break;
    no_room_at = distance;
  }
  return std::nullopt;
}

std::optional<ExpertCache::Job> ExpertCache::start(const ExpertKey& key, LoadCause cause) {
  const Job job{key, cause, bytes_of(key)};
  loading_.emplace(key, cause);
  counters_.loading_bytes += job.bytes;
  return job;
}

bool ExpertCache::is_resting(const ExpertKey& key, TimePoint now) const {
  const auto failure = failures_.find(key);
  return failure != failures_.end() && failure->second.retry_at > now;
}

size_t ExpertCache::bytes_of(const ExpertKey& key) const {
  const auto size = sizes_.find(key);
  return size == sizes_.end() ? options_.expert_bytes : size->second;
}

// Memory.

/// For an expert that is needed at that distance; without one, now. Evicts nothing if it cannot
/// make enough.
bool ExpertCache::make_room(size_t bytes, std::optional<double> needed_in,
                            std::vector<Expert>& evicted) {
  const auto room = [this] {
    return options_.memory_bytes - counters_.bytes - counters_.loading_bytes;
  };
  if (room() >= bytes) return true;
  std::vector<ExpertKey> candidates = evictable(needed_in);
  size_t possible = room();
  for (const ExpertKey& key : candidates) possible += bytes_of(key);
  if (possible < bytes) return false;
  while (room() < bytes) {
    const size_t chosen = policy_->choose(candidates, uses_);
    evicted.push_back(evict(candidates[chosen]));
    candidates.erase(candidates.begin() + static_cast<ptrdiff_t>(chosen));
  }
  return true;
}

/// What no batch computes with or is about to, and is not needed as soon.
std::vector<ExpertKey> ExpertCache::evictable(std::optional<double> needed_in) const {
  std::vector<ExpertKey> keys;
  for (const auto& [key, held] : held_) {
    if (held.num_users > 0) continue;
    const auto distance = needed_in ? uses_.distance(key) : std::nullopt;
    if (!distance || *distance > *needed_in) keys.push_back(key);
  }
  return keys;
}

ExpertCache::Expert ExpertCache::evict(const ExpertKey& key) {
  const auto entry = held_.find(key);
  Expert expert = std::move(entry->second.expert);
  counters_.bytes -= expert->bytes();
  --counters_.num_experts;
  ++counters_.evictions;
  counters_.unused_prefetches += entry->second.unused;
  probe_.evicted(entry->second.unused);
  held_.erase(entry);
  uses_.set_present(key, false);
  policy_->evicted(key);
  probe_.holds(counters_.num_experts, counters_.bytes);
  return expert;
}

void ExpertCache::keep(const Job& job, Expert expert) {
  const size_t bytes = expert->bytes();
  PREGATE_CHECK(bytes <= job.bytes);
  sizes_[job.key] = bytes;
  failures_.erase(job.key);
  ++(job.cause == LoadCause::kDemand ? counters_.demand_loads : counters_.prefetch_loads);
  ++counters_.num_experts;
  counters_.bytes += bytes;
  policy_->loaded(job.key);
  uses_.set_present(job.key, true);
  Held& held = held_[job.key];
  held.expert = std::move(expert);
  held.unused = job.cause == LoadCause::kPrefetch;
  for (Lease* lease : leases_) lease->arrived(job.key, held);
  arrival_.notify_all();
  probe_.holds(counters_.num_experts, counters_.bytes);
}

// Failures.

void ExpertCache::note_failure(const Job& job, Error error) {
  ++counters_.load_errors;
  probe_.load_failed(job.cause);
  Failure& failure = failures_[job.key];
  const bool gives_up =
      error.code != ErrorCode::kUnavailable || failure.attempts >= options_.max_retries;
  failure.retry_at =
      gives_up ? TimePoint::max() : clock_.now() + options_.retry_pause * (1 << failure.attempts);
  ++failure.attempts;
  spdlog::warn("{}: cannot load, attempt {}{}: {}", name_of(job.key), failure.attempts,
               gives_up ? ", the last" : "", error.message);
  if (!is_wanted(job.key)) return;
  if (!gives_up) {
    demands_.push_back(job.key);
    return;
  }
  // Whoever needs it next tries anew.
  failures_.erase(job.key);
  const Error told{ErrorCode::kUnavailable,
                   fmt::format("{} cannot be loaded: {}", name_of(job.key), error.message)};
  for (Lease* lease : leases_) lease->failed(job.key, told);
  arrival_.notify_all();
}

bool ExpertCache::is_wanted(const ExpertKey& key) const {
  return std::ranges::any_of(leases_,
                             [&](const Lease* lease) { return lease->missing_.contains(key); });
}

void ExpertCache::demand(const ExpertKey& key) {
  // What a prefetch gave up, or rests from, is tried at once and as often as anything.
  failures_.erase(key);
  const bool is_known = loading_.contains(key) || std::ranges::count(demands_, key) > 0;
  if (!is_known) demands_.push_back(key);
}

// Leases.

ExpertCache::Lease::Lease(ExpertCache& cache, std::vector<ExpertKey> keys, router::LayerTime now)
    : cache_(cache), keys_(std::move(keys)) {
  std::lock_guard lock(cache_.mutex_);
  cache_.uses_.pass(now);
  for (size_t i = 0; i < keys_.size(); ++i) {
    const auto held = cache_.held_.find(keys_[i]);
    cache_.policy_->used(keys_[i], now);
    missing_.emplace(keys_[i], i);
    if (held == cache_.held_.end()) {
      cache_.demand(keys_[i]);
    } else {
      arrived(keys_[i], held->second);
    }
  }
  num_missing_ = missing_.size();
  cache_.counters_.hits += ready_.size();
  cache_.counters_.misses += num_missing_;
  cache_.probe_.looked_up(ready_.size(), num_missing_);
  cache_.leases_.push_back(this);
  cache_.something_changed();
}

ExpertCache::Lease::~Lease() {
  std::lock_guard lock(cache_.mutex_);
  give_back(given_);
  give_back(ready_);
  cache_.leases_.remove(this);
  std::erase_if(cache_.demands_, [this](const ExpertKey& key) { return !cache_.is_wanted(key); });
  cache_.something_changed();
  if (waited_ == Duration()) return;
  ++cache_.counters_.waits;
  cache_.counters_.wait += waited_;
  cache_.probe_.waited(waited_);
}

Result<std::vector<ExpertCache::Leased>> ExpertCache::Lease::next() {
  std::unique_lock lock(cache_.mutex_);
  give_back(given_);
  cache_.something_changed();  // There may be room now.
  const auto can_go_on = [this] { return !ready_.empty() || missing_.empty() || error_; };
  if (!can_go_on()) {
    const TimePoint begin = cache_.clock_.now();
    cache_.arrival_.wait(lock, can_go_on);
    waited_ += std::max(cache_.clock_.now() - begin, Duration(1));
  }
  if (error_) return fail(*error_);
  given_ = std::exchange(ready_, {});
  std::vector<Leased> leased;
  for (const size_t i : given_) {
    leased.push_back({i, cache_.held_.at(keys_[i]).expert.get()});
  }
  return leased;
}

void ExpertCache::Lease::arrived(const ExpertKey& key, Held& held) {
  const auto missing = missing_.find(key);
  if (missing == missing_.end()) return;
  ready_.push_back(missing->second);
  missing_.erase(missing);
  ++held.num_users;
  held.unused = false;
}

void ExpertCache::Lease::failed(const ExpertKey& key, const Error& error) {
  if (missing_.contains(key)) error_ = error;
}

void ExpertCache::Lease::give_back(std::vector<size_t>& indices) {
  for (const size_t i : indices) --cache_.held_.at(keys_[i]).num_users;
  indices.clear();
}

}  // namespace pregate::worker
