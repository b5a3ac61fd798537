// Which experts a number of rows will need, from what is likely for each of them.
#pragma once

#include <span>
#include <vector>

#include "router/lookahead/lookahead.h"

namespace pregate::router {

/// An expert is a candidate if it is among the top_k likeliest of at least one row. Rows are taken
/// as independent: that at least one of them needs it has likelihood 1 - product of (1 - each
/// row's).
class NeedEstimate {
 public:
  struct Need {
    ExpertId expert;
    float likelihood = 0.0f;
  };

  NeedEstimate(size_t num_experts, size_t top_k);

  void clear();
  /// likely[e], [num_experts]: that this row needs e. Above 1 counts as 1; 0 makes no candidate.
  void add_row(std::span<const float> likely);
  /// At most `limit` candidates, the likeliest first, of equal ones the lower id.
  std::vector<Need> best(size_t limit) const;

 private:
  const size_t top_k_;
  std::vector<float> spared_;  // that no row needs it
  std::vector<bool> candidates_;
  std::vector<uint32_t> order_;  // scratch
};

/// Appends the needs at one time and layer as guesses.
void append_guesses(std::span<const NeedEstimate::Need> needs, LayerIdx layer, LayerTime when,
                    Plan& plan);

}  // namespace pregate::router
