// A cache of fake experts of 1000 bytes, whose loads a test sees, holds up and lets fail.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/worker/fake_backend.h"
#include "worker/experts/cache/expert_cache.h"

namespace pregate::testing {

using worker::ExpertKey;

inline constexpr size_t kFakeExpertBytes = 1000;
inline constexpr size_t kFakeHidden = 4;

constexpr ExpertKey expert_key(uint32_t expert, uint32_t layer = 0) {
  return {LayerIdx(layer), ExpertId(expert)};
}

/// Where the experts come from. Thread-safe.
class FakeDisk {
 public:
  worker::ReadExpert reader() {
    return [this](LayerIdx layer, ExpertId expert) { return read({layer, expert}); };
  }

  /// From now on reads wait for let_go().
  void hold() {
    std::lock_guard lock(mutex_);
    is_held_ = true;
  }
  void let_go() {
    std::lock_guard lock(mutex_);
    is_held_ = false;
    changed_.notify_all();
  }
  /// The next reads of an expert end so.
  void fail_next(const ExpertKey& key, size_t times, ErrorCode code = ErrorCode::kUnavailable) {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < times; ++i) failures_[key].push_back(code);
  }

  /// Waits until so many reads have begun; returns the experts in that order.
  std::vector<uint32_t> wait_for_reads(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return reads_.size() >= count; });
    return reads_;
  }
  std::vector<uint32_t> wait_for_read_of(uint32_t expert) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return std::ranges::count(reads_, expert) > 0; });
    return reads_;
  }
  std::vector<uint32_t> reads() const {
    std::lock_guard lock(mutex_);
    return reads_;
  }

 private:
  Result<std::unique_ptr<compute::PackedExpert>> read(const ExpertKey& key) {
    std::unique_lock lock(mutex_);
    reads_.push_back(key.second.value);
    changed_.notify_all();
    changed_.wait(lock, [this] { return !is_held_; });
    auto& failures = failures_[key];
    if (failures.empty()) return load_fake(key.first, key.second, kFakeHidden);
    const ErrorCode code = failures.front();
    failures.pop_front();
    return fail(code, "the disk is broken");
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool is_held_ = false;
  std::vector<uint32_t> reads_;
  std::map<ExpertKey, std::deque<ErrorCode>> failures_;
};

/// Lets a test wait for what the cache does in the background.
class WaitingProbe final : public worker::CacheProbe {
 public:
  void loaded(worker::LoadCause, size_t, Duration) override { count(num_loaded_); }
  void load_failed(worker::LoadCause) override { count(num_failed_); }
  void wait_for_loads(size_t count) { wait(num_loaded_, count); }
  void wait_for_failures(size_t count) { wait(num_failed_, count); }

 private:
  void count(size_t& number) {
    std::lock_guard lock(mutex_);
    ++number;
    changed_.notify_all();
  }
  void wait(const size_t& number, size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return number >= count; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t num_loaded_ = 0, num_failed_ = 0;
};

class CacheTest : public ::testing::Test {
 protected:
  void make(size_t num_experts, const std::string& policy = "lru", size_t num_loaders = 1,
            const Clock& clock = system_clock()) {
    std::vector<worker::ReadExpert> readers(num_loaders, disk.reader());
    const worker::CacheOptions options{.memory_bytes = num_experts * kFakeExpertBytes,
                                       .expert_bytes = kFakeExpertBytes,
                                       .max_retries = 3,
                                       .retry_pause = std::chrono::microseconds(100)};
    auto made = worker::ExpertCache::create(
        std::move(readers), worker::make_eviction_policy(policy, {.seed = 1}).value(), options,
        clock, probe);
    ASSERT_TRUE(made) << made.error().message;
    cache = std::move(*made);
  }
  /// A plan of certain uses, {expert, when}.
  static router::Plan certain(std::initializer_list<std::pair<uint32_t, router::LayerTime>> uses) {
    router::Plan plan;
    for (const auto& [expert, when] : uses) {
      plan.push_back({LayerIdx(0), ExpertId(expert), when, true, 1.0f});
    }
    return plan;
  }
  static router::PlannedExpert guess(uint32_t expert, router::LayerTime when, float likelihood) {
    return {LayerIdx(0), ExpertId(expert), when, false, likelihood};
  }
  std::unique_ptr<worker::ExpertCache::Lease> acquire(std::initializer_list<uint32_t> experts,
                                                      router::LayerTime now = 0) {
    std::vector<ExpertKey> keys;
    for (const uint32_t expert : experts) keys.push_back(expert_key(expert));
    return cache->acquire(std::move(keys), now);
  }
  /// The indices of the next group.
  static std::set<size_t> next(worker::ExpertCache::Lease& lease) {
    const auto group = lease.next();
    std::set<size_t> indices;
    if (!group) {
      ADD_FAILURE() << group.error().message;
      return indices;
    }
    for (const auto& [index, expert] : *group) {
      EXPECT_NE(expert, nullptr);
      EXPECT_TRUE(indices.insert(index).second);
    }
    return indices;
  }
  /// Computes with all of them; returns the groups' sizes.
  static std::vector<size_t> use_up(worker::ExpertCache::Lease& lease) {
    std::vector<size_t> sizes;
    for (auto group = next(lease); !group.empty(); group = next(lease)) {
      sizes.push_back(group.size());
    }
    return sizes;
  }
  void use(std::initializer_list<uint32_t> experts, router::LayerTime now = 0) {
    use_up(*acquire(experts, now));
  }

  FakeDisk disk;
  WaitingProbe probe;
  std::unique_ptr<worker::ExpertCache> cache;
};

}  // namespace pregate::testing
