#include "compute/cuda/recordings.h"

#include <algorithm>

namespace pregate::compute::cuda {

Result<Recordings::Entry*> Recordings::at(const Key& key) {
  if (!entries_.contains(key)) PREGATE_TRY(make_room());
  Entry& entry = entries_[key];
  entry.last_used = ++num_asked_;
  return &entry;
}

// What is being done must not be given up.
Status Recordings::make_room() {
  if (entries_.size() < kMaxEntries) return {};
  const auto oldest = std::ranges::min_element(
      entries_, {}, [](const auto& entry) { return entry.second.last_used; });
  if (oldest->second.recording != nullptr) PREGATE_TRY(stream_.synchronize());
  entries_.erase(oldest);
  return {};
}

}  // namespace pregate::compute::cuda
