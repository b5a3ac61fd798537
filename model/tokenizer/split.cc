#include "model/tokenizer/split.h"

#include <algorithm>

namespace pregate::model {
namespace {

void join_contiguous(const std::vector<Span>& spans, std::vector<ByteRange>& parts) {
  bool previous_is_match = false;
  for (const Span& span : spans) {
    if (span.is_match == previous_is_match && !parts.empty()) {
      parts.back().end = span.range.end;
    } else {
      parts.push_back(span.range);
    }
    previous_is_match = span.is_match;
  }
}

void join_with_previous(const std::vector<Span>& spans, std::vector<ByteRange>& parts) {
  bool previous_is_match = false;
  for (const Span& span : spans) {
    if (span.is_match && !previous_is_match && !parts.empty()) {
      parts.back().end = span.range.end;
    } else {
      parts.push_back(span.range);
    }
    previous_is_match = span.is_match;
  }
}

void join_with_next(const std::vector<Span>& spans, std::vector<ByteRange>& parts) {
  bool next_is_match = false;
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    if (span->is_match && !next_is_match && !parts.empty()) {
      parts.back().begin = span->range.begin;
    } else {
      parts.push_back(span->range);
    }
    next_is_match = span->is_match;
  }
  std::reverse(parts.begin(), parts.end());
}

}  // namespace

Result<SplitBehavior> split_behavior_from_name(std::string_view name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return fail(ErrorCode::kInvalidArgument,
              "unknown behavior '{}', expected Removed, Isolated, MergedWithPrevious, "
              "MergedWithNext or Contiguous",
              name);
}

void spans_from_matches(const std::vector<ByteRange>& matches, size_t text_length_bytes,
                        bool inverted, std::vector<Span>& spans) {
  spans.clear();
  size_t covered_end = 0;
  for (const ByteRange match : matches) {
    if (match.begin > covered_end) spans.push_back({{covered_end, match.begin}, inverted});
    spans.push_back({match, !inverted});
    covered_end = match.end;
  }
  if (covered_end < text_length_bytes) {
    spans.push_back({{covered_end, text_length_bytes}, inverted});
  }
}

void apply_behavior(const std::vector<Span>& spans, SplitBehavior behavior,
                    std::vector<ByteRange>& parts) {
  parts.clear();
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Span& span : spans) {
        if (!span.is_match) parts.push_back(span.range);
      }
      return;
    case SplitBehavior::kIsolated:
      for (const Span& span : spans) parts.push_back(span.range);
      return;
    case SplitBehavior::kMergedWithPrevious:
      return join_with_previous(spans, parts);
    case SplitBehavior::kMergedWithNext:
      return join_with_next(spans, parts);
    case SplitBehavior::kContiguous:
      return join_contiguous(spans, parts);
  }
}

}  // namespace pregate::model
