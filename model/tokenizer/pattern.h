// What a Split or Replace looks for: a literal text or a regular expression.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/tokenizer/json_field.h"
#include "model/tokenizer/regex.h"

namespace pregate::model {

/// Immutable; thread-safe.
class Pattern {
 public:
  /// From {"String": "..."} or {"Regex": "..."}.
  static Result<Pattern> from_json(const JsonField& field);
  static Pattern literal(std::string text) { return Pattern(std::move(text), std::nullopt); }
  static Pattern regex(Regex regex) { return Pattern({}, std::move(regex)); }

  /// All matches from left to right, none overlapping. Clears `matches` first.
  void find_all(std::string_view text, std::vector<ByteRange>& matches) const;

  /// Null for a regular expression.
  const std::string* literal_text() const { return regex_ ? nullptr : &literal_; }

 private:
  Pattern(std::string literal, std::optional<Regex> regex)
      : literal_(std::move(literal)), regex_(std::move(regex)) {}

  std::string literal_;  // never empty when there is no regex
  std::optional<Regex> regex_;
};

/// `text` with `content` in place of each of `matches`.
std::string replace_matches(std::string_view text, const std::vector<ByteRange>& matches,
                            std::string_view content);

}  // namespace pregate::model
