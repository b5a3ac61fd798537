// The plain structs between the back end and the kernels that find the largest logits and draw
// tokens, as args.h has the others. Rows are so long and so few that each is cut into parts: a
// block alone reads it too slowly.
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/draw.h"
#include "compute/draw_parts.h"
#include "compute/number.h"

namespace pregate::compute::cuda {

struct DrawState;

/// Which number of each row is the largest, but for the last step: the largest key of the row's
/// parts says where that number is.
struct LargestArgs {
  const float* x = nullptr;
  uint32_t stride = 0;
  uint32_t cols = 0;
  uint32_t num_rows = 0;
  uint64_t* keys = nullptr;  ///< [num_rows][kLargestParts]; 0 of a part without columns.
  /// [num_rows], to begin draws with; null: there will be none.
  DrawState* states = nullptr;
};
inline constexpr uint32_t kLargestParts = 32;

/// Above 0; larger for a number of a larger rank, and of equal ones for that in the earlier column.
constexpr uint64_t largest_key(float x, uint32_t column) {
  return uint64_t{rank_of(x)} << 32 | ~column;
}
constexpr uint32_t column_of(uint64_t key) { return ~static_cast<uint32_t>(key); }
/// The number, but for the sign of a zero.
constexpr float number_of(uint64_t key) { return number_at(static_cast<uint32_t>(key >> 32)); }
/// Of a row's keys [kLargestParts].
constexpr uint32_t largest_column(const uint64_t* keys) {
  uint64_t most = 0;
  for (uint32_t part = 0; part < kLargestParts; ++part) {
    if (keys[part] > most) most = keys[part];
  }
  return column_of(most);
}

/// Backend::draw(), after the largest numbers of the same rows were found.
struct DrawArgs {
  LargestArgs logits;           ///< With its keys and states; at most kMaxDrawable columns.
  const Draw* draws = nullptr;  ///< [num_rows], of which the changes were made before.
  bool any_cut = true;          ///< Whether a draw is_cut().
  uint32_t* tokens = nullptr;   ///< [num_rows]
};

/// Most parts that a row is cut into for a draw, of which each has a block.
inline constexpr uint32_t kMaxDrawParts = 64;

/// First digits of what can be drawn.
inline constexpr uint32_t kFirstShift = kDigitBits * (kDigits - 1);
inline constexpr uint32_t kFirstDigits = kMaxDeficit >> kFirstShift;
static_assert(kFirstDigits << kFirstShift == kMaxDeficit);

/// What blocks that draw from a row leave one another, in the device's memory.
struct DrawState {
  /// What blocks add to. Of find_largest() all are 0.
  struct Tally {
    uint64_t amounts[kFirstDigits];  ///< What there is to draw, by first digit.
    uint32_t num_done;               ///< Parts.
  } tally;
  uint64_t masses[kMaxDrawParts];  ///< Of tokens that are drawn for certain.
  /// Tokens of which only all blocks together can say whether they are drawn.
  struct Listed {
    uint32_t token, deficit;
  };
  static constexpr uint32_t kMaxListed = 8192;  ///< Of all parts, which have as much room each.
  uint32_t num_listed[kMaxDrawParts];           ///< More, if there was no room for them.
  Listed listed[kMaxListed];
};

}  // namespace pregate::compute::cuda
