#include "worker/experts/store.h"

#include "base/check.h"
#include "protocol/expert_ranges.h"

namespace pregate::worker {

ExpertStore::Expert ExpertStore::find(const ExpertKey& key) const {
  std::lock_guard lock(mutex_);
  const auto entry = experts_.find(key);
  return entry == experts_.end() ? nullptr : entry->second;
}

void ExpertStore::insert(const ExpertKey& key,
                         std::unique_ptr<const compute::PackedExpert> expert) {
  const size_t bytes = expert->bytes();
  *in_memory_ += bytes;
  Expert shared(expert.release(),
                [in_memory = in_memory_, bytes](const compute::PackedExpert* unused) {
                  std::default_delete<const compute::PackedExpert>()(unused);
                  *in_memory -= bytes;
                });
  std::lock_guard lock(mutex_);
  bytes_ += bytes;
  PREGATE_CHECK(experts_.emplace(key, std::move(shared)).second);
}

size_t ExpertStore::keep_only(const std::set<ExpertKey>& wanted) {
  // Freed without the lock: giving back gigabytes takes a while.
  std::vector<Expert> dropped;
  std::lock_guard lock(mutex_);
  for (auto entry = experts_.begin(); entry != experts_.end();) {
    if (wanted.contains(entry->first)) {
      ++entry;
      continue;
    }
    bytes_ -= entry->second->bytes();
    dropped.push_back(std::move(entry->second));
    entry = experts_.erase(entry);
  }
  return dropped.size();
}

size_t ExpertStore::num_experts() const {
  std::lock_guard lock(mutex_);
  return experts_.size();
}

size_t ExpertStore::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

std::vector<protocol::ExpertRange> ExpertStore::ranges() const {
  std::lock_guard lock(mutex_);
  std::vector<protocol::ExpertRange> ranges;
  for (const auto& [key, expert] : experts_) {
    protocol::append_expert(ranges, key.first, key.second);
  }
  return ranges;
}

}  // namespace pregate::worker
