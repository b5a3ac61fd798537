#include "compute/draw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "compute/draw_parts.h"
#include "compute/largest.h"

namespace pregate::compute {
namespace {

/// In order of tokens. Of mass 0: is not drawn.
struct Candidates {
  std::vector<uint32_t> tokens;
  std::vector<uint32_t> deficits;
  std::vector<uint64_t> masses;
};

/// What min_p leaves. A piece at a time, for what needs many operations to be done in vectors.
void find_candidates(std::span<const float> logits, float largest, const Draw& draw,
                     Candidates& out) {
  constexpr size_t kPiece = 1024;
  const float scale = scale_of(draw.temperature);
  out.tokens.resize(logits.size());
  std::iota(out.tokens.begin(), out.tokens.end(), 0u);
  out.deficits.resize(logits.size());
  out.masses.resize(logits.size());
  for (size_t first = 0; first < logits.size(); first += kPiece) {
    const size_t count = std::min(kPiece, logits.size() - first);
    const float* const from = logits.data() + first;
    uint32_t* const deficits = out.deficits.data() + first;
    float likely[kPiece];
    for (size_t i = 0; i < count; ++i) {
      deficits[i] = deficit_of(from[i], largest, scale);
      likely[i] = likelihood(deficits[i]);
      likely[i] = likely[i] >= draw.min_p ? likely[i] : 0.0f;
    }
    for (size_t i = 0; i < count; ++i) out.masses[first + i] = mass_of(likely[i]);
  }
}

uint64_t total_of(const Candidates& candidates) {
  return std::accumulate(candidates.masses.begin(), candidates.masses.end(), uint64_t{0});
}

// What shares are of.
uint64_t count(uint64_t mass) { return mass > 0 ? 1 : 0; }
uint64_t same(uint64_t mass) { return mass; }

/// The least deficit up to which there is such a share, which is there. Digit after digit: each
/// time those are looked at that have all digits before.
template <uint64_t (*kAmount)(uint64_t)>
uint32_t deficit_up_to(uint64_t share, const Candidates& candidates) {
  uint32_t found = 0;
  for (uint32_t shift = kDigitBits * kDigits; shift > 0; shift -= kDigitBits) {
    std::array<uint64_t, 1 << kDigitBits> amounts{};
    for (size_t i = 0; i < candidates.deficits.size(); ++i) {
      const uint64_t digits = uint64_t{candidates.deficits[i]} >> (shift - kDigitBits);
      if (digits >> kDigitBits != found) continue;
      amounts[digits % amounts.size()] += kAmount(candidates.masses[i]);
    }
    uint32_t digit = 0;
    for (; amounts[digit] < share; ++digit) share -= amounts[digit];
    found = found << kDigitBits | digit;
  }
  return found;
}

void keep_up_to(uint32_t deficit, Candidates& candidates) {
  auto& [tokens, deficits, masses] = candidates;
  size_t num_kept = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[num_kept] = tokens[i];
    deficits[num_kept] = deficits[i];
    masses[num_kept] = masses[i];
    num_kept += deficits[i] <= deficit ? 1 : 0;
  }
  tokens.resize(num_kept);
  deficits.resize(num_kept);
  masses.resize(num_kept);
}

uint32_t token_of(uint64_t unit, const Candidates& candidates) {
  size_t i = 0;
  for (; candidates.masses[i] <= unit; ++i) unit -= candidates.masses[i];
  return candidates.tokens[i];
}

/// When its changes have been made.
uint32_t draw_from(std::span<const float> logits, const Draw& draw) {
  PREGATE_CHECK(logits.size() <= kMaxDrawable);
  const uint32_t best = find_largest(logits);
  // If all are NaN no other can be drawn either. Otherwise the best can, whatever is cut off.
  if (takes_largest(draw) || std::isnan(logits[best])) return best;
  thread_local Candidates candidates;  // large, and wanted again soon
  find_candidates(logits, logits[best], draw, candidates);
  if (has_top_k(draw, logits.size())) {
    const uint64_t num_candidates = std::ranges::count_if(candidates.masses, count);
    const uint64_t share = std::min<uint64_t>(draw.top_k, num_candidates);
    keep_up_to(deficit_up_to<count>(share, candidates), candidates);
  }
  if (has_top_p(draw)) {
    const uint64_t share = share_of(draw.top_p, total_of(candidates));
    keep_up_to(deficit_up_to<same>(share, candidates), candidates);
  }
  return token_of(unit_at(draw.place, total_of(candidates)), candidates);
}

}  // namespace

uint32_t draw(std::span<const float> logits, const Draw& draw) {
  if (draw.changes.empty()) return draw_from(logits, draw);
  thread_local std::vector<float> changed;  // as large
  changed.assign(logits.begin(), logits.end());
  return draw_in_place(changed, draw);
}

uint32_t draw_in_place(std::span<float> logits, const Draw& draw) {
  change_logits(logits, draw.changes);
  return draw_from(logits, draw);
}

}  // namespace pregate::compute
