// Finds stop strings in streamed text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pregate::coordinator {

/// Text goes in piece by piece and comes out as soon as it cannot be the beginning of a stop
/// string. The earliest occurrence ends the text; of two that begin together the first in the list
/// wins.
class StopScanner {
 public:
  /// `include_stop`: the found stop string is part of the text that comes out.
  StopScanner(std::vector<std::string> stops, bool include_stop);

  /// What may be shown now. After a match nothing more comes out.
  std::string push(std::string_view text);
  /// What was held back, when the text ends without a match.
  std::string finish();
  /// The stop string that was found.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  size_t held_length() const;

  const std::vector<std::string> stops_;
  const bool include_stop_;
  std::string held_;  // not given out yet
  std::optional<std::string> matched_;
};

}  // namespace pregate::coordinator
