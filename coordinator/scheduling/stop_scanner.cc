#include "coordinator/scheduling/stop_scanner.h"

#include <algorithm>
#include <utility>

namespace pregate::coordinator {

StopScanner::StopScanner(std::vector<std::string> stops, bool include_stop)
    : stops_(std::move(stops)), include_stop_(include_stop) {}

std::string StopScanner::push(std::string_view text) {
  if (matched_) return {};
  if (stops_.empty()) return std::string(text);
  held_ += text;
  size_t match = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t found = held_.find(stop);
    if (found == std::string::npos || found >= match) continue;
    match = found;
    matched_ = stop;
  }
  if (matched_) {
    std::string out = held_.substr(0, match + (include_stop_ ? matched_->size() : 0));
    held_.clear();
    return out;
  }
  const size_t ready = held_.size() - held_length();
  std::string out = held_.substr(0, ready);
  held_.erase(0, ready);
  return out;
}

std::string StopScanner::finish() { return std::exchange(held_, {}); }

// The longest end of held_ that is the beginning of a stop string.
size_t StopScanner::held_length() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > longest; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) longest = length;
    }
  }
  return longest;
}

}  // namespace pregate::coordinator
