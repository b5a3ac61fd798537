// Regular expressions as tokenizer.json writes them (Oniguruma's Ruby syntax), run by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct pcre2_real_code_8;

namespace pregate::model {

/// Bytes [begin, end) of a text.
struct ByteRange {
  size_t begin;
  size_t end;
  bool operator==(const ByteRange&) const = default;
};

/// Immutable; thread-safe.
class Regex {
 public:
  static Result<Regex> compile(std::string_view pattern);

  /// All matches from left to right, none overlapping; an empty match never follows directly on the
  /// match before it. Clears `matches` first. A search that exceeds the limit on backtracking ends
  /// the list early.
  void find_all(std::string_view text, std::vector<ByteRange>& matches) const;

  /// Whether the whole of one code point matches.
  bool matches_code_point(char32_t code_point) const;

 private:
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const;
  };
  using CodePtr = std::unique_ptr<pcre2_real_code_8, CodeDeleter>;
  explicit Regex(CodePtr code) : code_(std::move(code)) {}

  CodePtr code_;
};

/// Rewrites Oniguruma's Ruby syntax into PCRE2's (regex_syntax.cc); an error says which construct
/// has no equal. Scripts and "alphabetic" follow PCRE2's own version of Unicode.
Result<std::string> to_pcre2_syntax(std::string_view pattern);

/// `text`, or `buffer` filled with a text of the same length in which characters that PCRE2's
/// Unicode tables do not know (or see differently) are replaced by ones of the same category and
/// length in bytes (regex_unicode.cc).
std::string_view with_known_characters(std::string_view text, std::string& buffer);

}  // namespace pregate::model
