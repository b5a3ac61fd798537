#include "worker/experts/loader.h"

#include <algorithm>

#include "base/log.h"
#include "protocol/expert_ranges.h"

namespace pregate::worker {
namespace {

constexpr Duration kRetryDelay = std::chrono::seconds(1);
constexpr size_t kMaxRetries = 3;
/// While a dropped expert is still computed with.
constexpr Duration kRoomPoll = std::chrono::milliseconds(10);

double mebibytes(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

/// For the next load to begin after one of so many bytes.
Duration pause_after(size_t bytes, uint64_t bytes_per_second) {
  constexpr double kLongest = 3600;
  if (bytes_per_second == 0) return {};
  const double seconds = static_cast<double>(bytes) / static_cast<double>(bytes_per_second);
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::min(seconds, kLongest)));
}

}  // namespace

ExpertLoader::ExpertLoader(ReadExpert read, const protocol::Capacity& announced, ExpertStore& store,
                           const Clock& clock, Probe& probe)
    : read_(std::move(read)),
      memory_bytes_(announced.memory_bytes),
      expert_bytes_(announced.expert_bytes),
      store_(store),
      clock_(clock),
      probe_(probe) {}

void ExpertLoader::assign(const protocol::AssignExperts& assignment) {
  auto wanted = std::make_shared<Wanted>();
  wanted->bytes_per_second = assignment.bytes_per_second;
  protocol::for_each_expert(assignment.ranges, [&](LayerIdx layer, ExpertId expert) {
    const ExpertKey key(layer, expert);
    if (wanted->keys.insert(key).second) wanted->order.push_back(key);
  });
  std::lock_guard lock(mutex_);
  if (assignment.assignment <= assignment_) return;
  assignment_ = assignment.assignment;
  wanted_ = std::move(wanted);
  ++revision_;
}

void ExpertLoader::begin_session(uint64_t coordinator_incarnation) {
  std::lock_guard lock(mutex_);
  if (coordinator_ != coordinator_incarnation) assignment_ = 0;
  coordinator_ = coordinator_incarnation;
  ++revision_;
}

TimePoint ExpertLoader::step() {
  if (failure()) return TimePoint::max();
  adopt_latest();
  if (!pending_.empty()) {
    const TimePoint begin = wait_for(pending_.front());
    if (begin > clock_.now()) return begin;
    if (const auto until = wait_for_room()) return *until;
    load(pending_.front());
  }
  while (!pending_.empty() && store_.find(pending_.front())) pending_.pop_front();
  note_waiting(0);
  if (pending_.empty()) note_completion();
  return pending_.empty() || failure() ? TimePoint::max() : wait_for(pending_.front());
}

void ExpertLoader::adopt_latest() {
  {
    std::lock_guard lock(mutex_);
    if (adopted_ == wanted_) return;
    adopted_ = wanted_;
  }
  std::erase_if(failures_,
                [this](const auto& entry) { return !adopted_->keys.contains(entry.first); });
  if (store_.keep_only(adopted_->keys) > 0) {
    probe_.holds(store_.num_experts(), store_.bytes());
    std::lock_guard lock(mutex_);
    ++revision_;
  }
  pending_.clear();
  for (const ExpertKey& key : adopted_->order) {
    if (!store_.find(key)) pending_.push_back(key);
  }
}

/// When this expert may be loaded.
TimePoint ExpertLoader::wait_for(const ExpertKey& key) const {
  const TimePoint rate_allows = last_load_ + pause_after(last_bytes_, adopted_->bytes_per_second);
  const auto failed = failures_.find(key);
  return failed == failures_.end() ? rate_allows : std::max(rate_allows, failed->second.retry_at);
}

/// Nothing if the next one fits. Else when to look again: unless something is still computed with
/// that was dropped, only another assignment drops more.
std::optional<TimePoint> ExpertLoader::wait_for_room() {
  const size_t in_memory = store_.bytes_in_memory();
  if (in_memory + expert_bytes_ <= memory_bytes_) return std::nullopt;
  note_waiting(pending_.size());
  return in_memory > store_.bytes() ? clock_.now() + kRoomPoll : TimePoint::max();
}

void ExpertLoader::note_waiting(size_t num_experts) {
  if (num_waiting_ == num_experts) return;
  num_waiting_ = num_experts;
  probe_.waits_for_room(num_experts);
  if (num_experts == 0 || std::exchange(has_told_to_wait_, true)) return;
  spdlog::warn("full with {:.1f} of {:.1f} MiB: {} experts wait until others are dropped",
               mebibytes(store_.bytes_in_memory()), mebibytes(memory_bytes_), num_experts);
}

void ExpertLoader::load(const ExpertKey& key) {
  last_load_ = clock_.now();
  auto expert = read_(key.first, key.second);
  if (!expert) {
    last_bytes_ = 0;
    return note_failure(key, in_context(std::move(expert.error()),
                                        fmt::format("layer {} expert {}", key.first, key.second)));
  }
  failures_.erase(key);
  last_bytes_ = (*expert)->bytes();
  probe_.expert_loaded(last_bytes_, clock_.now() - last_load_);
  keep(key, std::move(*expert));
}

/// Unless nobody wants it any more.
void ExpertLoader::keep(const ExpertKey& key, std::unique_ptr<compute::PackedExpert> expert) {
  {
    std::lock_guard lock(mutex_);
    if (!wanted_->keys.contains(key)) return;
    store_.insert(key, std::move(expert));
    ++revision_;
  }
  probe_.holds(store_.num_experts(), store_.bytes());
}

void ExpertLoader::note_failure(const ExpertKey& key, Error error) {
  probe_.load_failed();
  Attempts& attempts = failures_[key];
  attempts.retry_at = clock_.now() + kRetryDelay;
  if (++attempts.count <= kMaxRetries) {
    spdlog::warn("cannot load, will try again: {}", error.message);
    return;
  }
  std::lock_guard lock(mutex_);
  failure_ = std::move(error);
}

void ExpertLoader::note_completion() {
  std::lock_guard lock(mutex_);
  if (adopted_ != wanted_ || completed_ == wanted_) return;
  completed_ = wanted_;
  has_told_to_wait_ = false;
  ++revision_;
  if (assignment_ == 0) return;  // Nobody has assigned anything yet.
  spdlog::info("holds {} experts, {:.1f} MiB, as assigned", store_.num_experts(),
               mebibytes(store_.bytes()));
}

ExpertLoader::State ExpertLoader::state() const {
  std::lock_guard lock(mutex_);
  return state_locked();
}

ExpertLoader::State ExpertLoader::state_locked() const {
  return {assignment_, revision_, assignment_ > 0 && completed_ == wanted_};
}

protocol::Holdings ExpertLoader::holdings() const {
  // With the lock, so that the revision fits the ranges or is older, never newer.
  std::lock_guard lock(mutex_);
  const State state = state_locked();
  protocol::Holdings holdings;
  holdings.revision = state.revision;
  holdings.assignment = state.assignment;
  holdings.complete = state.complete;
  holdings.bytes = store_.bytes();
  holdings.ranges = store_.ranges();
  return holdings;
}

std::optional<Error> ExpertLoader::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace pregate::worker
