#include "worker/experts/store.h"

#include "base/check.h"

namespace pregate::worker {

ExpertStore::Expert ExpertStore::find(const ExpertKey& key) const {
  std::lock_guard lock(mutex_);
  const auto entry = experts_.find(key);
  return entry == experts_.end() ? nullptr : entry->second;
}

void ExpertStore::insert(const ExpertKey& key, Expert expert) {
  std::lock_guard lock(mutex_);
  bytes_ += expert->bytes();
  PREGATE_CHECK(experts_.emplace(key, std::move(expert)).second);
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
    const auto [layer, id] = key;
    const bool joins = !ranges.empty() && ranges.back().layer == layer &&
                       ranges.back().first.value + ranges.back().count == id.value;
    if (joins) {
      ++ranges.back().count;
    } else {
      ranges.push_back({layer, id, 1});
    }
  }
  return ranges;
}

}  // namespace pregate::worker
