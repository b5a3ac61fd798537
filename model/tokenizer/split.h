// Cutting a piece at matches, and what becomes of the matches themselves.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/tokenizer/regex.h"

namespace pregate::model {

enum class SplitBehavior {
  kRemoved,             ///< Matches are dropped.
  kIsolated,            ///< Each match is a piece of its own.
  kMergedWithPrevious,  ///< A match belongs to the piece before it.
  kMergedWithNext,      ///< A match belongs to the piece after it.
  kContiguous,          ///< Adjacent matches form one piece.
};

Result<SplitBehavior> split_behavior_from_name(std::string_view name);

/// Part of a text that is one match or lies between two; the spans of a text cover it in order.
struct Span {
  ByteRange range;
  bool is_match;
};

/// Covers [0, text_length_bytes) with spans. `inverted` swaps matches and what lies between them.
void spans_from_matches(const std::vector<ByteRange>& matches, size_t text_length_bytes,
                        bool inverted, std::vector<Span>& spans);

/// The pieces the spans are cut into; empty ones may be among them. Clears `parts` first.
void apply_behavior(const std::vector<Span>& spans, SplitBehavior behavior,
                    std::vector<ByteRange>& parts);

}  // namespace pregate::model
