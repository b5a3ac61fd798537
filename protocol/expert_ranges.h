// Experts as messages list them: runs of neighbours of a layer.
#pragma once

#include <span>
#include <vector>

#include "protocol/messages.h"

namespace pregate::protocol {

/// At the end of the list: an expert that follows the last one there makes its run longer.
inline void append_expert(std::vector<ExpertRange>& ranges, LayerIdx layer, ExpertId expert) {
  const bool extends = !ranges.empty() && ranges.back().layer == layer &&
                       ranges.back().first.value + ranges.back().count == expert.value;
  if (extends) {
    ++ranges.back().count;
  } else {
    ranges.push_back({layer, expert, 1});
  }
}

/// Calls `visit(layer, expert)` in the order of the list.
template <typename Visit>
void for_each_expert(std::span<const ExpertRange> ranges, const Visit& visit) {
  for (const ExpertRange& range : ranges) {
    for (uint32_t i = 0; i < range.count; ++i) visit(range.layer, ExpertId(range.first.value + i));
  }
}

}  // namespace pregate::protocol
