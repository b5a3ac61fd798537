#include "worker/experts/store.h"

namespace pregate::worker {

Status ExpertStore::assign(std::span<const protocol::ExpertRange> ranges,
                           compute::WeightFormat format, const Progress& progress) {
  std::set<Key> wanted;
  for (const protocol::ExpertRange& range : ranges) {
    for (uint32_t i = 0; i < range.count; ++i) {
      wanted.emplace(range.layer, ExpertId(range.first.value + i));
    }
  }
  keep_only(format == format_ ? wanted : std::set<Key>());
  format_ = format;
  for (const auto& [layer, expert] : wanted) {
    if (!experts_.contains({layer, expert})) PREGATE_TRY(load(layer, expert));
    progress(experts_.size(), wanted.size(), bytes_);
  }
  return {};
}

void ExpertStore::keep_only(const std::set<Key>& wanted) {
  std::erase_if(experts_, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    bytes_ -= entry.second->bytes();
    return true;
  });
}

Status ExpertStore::load(LayerIdx layer, ExpertId expert) {
  auto loaded = loader_(layer, expert, format_);
  if (!loaded) {
    return fail(
        in_context(std::move(loaded.error()), fmt::format("layer {} expert {}", layer, expert)));
  }
  bytes_ += (*loaded)->bytes();
  experts_.emplace(Key(layer, expert), std::move(*loaded));
  return {};
}

const compute::PackedExpert* ExpertStore::find(LayerIdx layer, ExpertId expert) const {
  const auto entry = experts_.find({layer, expert});
  return entry == experts_.end() ? nullptr : entry->second.get();
}

const compute::PackedExpert* ExpertStore::any() const {
  return experts_.empty() ? nullptr : experts_.begin()->second.get();
}

}  // namespace pregate::worker
