// UTF-8, code point by code point, and the repair of bytes that are not UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pregate::model {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct CodePoint {
  char32_t value;
  size_t length_bytes;
};

/// The code point that starts at `pos`. `text` must be valid UTF-8 and `pos` the start of one.
CodePoint code_point_at(std::string_view text, size_t pos);
/// The code point that ends just before `end` (> 0).
CodePoint code_point_before(std::string_view text, size_t end);
void append_utf8(char32_t code_point, std::string& out);

bool is_valid_utf8(std::string_view bytes);

/// Turns bytes that come in pieces into valid UTF-8. Each maximal part of a character that cannot
/// be completed becomes one U+FFFD (Unicode 15, section 3.9, "substitution of maximal subparts";
/// so do Python's errors="replace" and Rust's from_utf8_lossy).
class Utf8Repair {
 public:
  /// Appends to `out` what is certain; the start of a character waits for its other bytes.
  void push(std::string_view bytes, std::string& out);
  /// The end of the text: an unfinished character becomes U+FFFD.
  void finish(std::string& out);

 private:
  std::string pending_;  // a proper prefix of one character
};

/// `bytes` itself where it is valid.
std::string repair_utf8(std::string_view bytes);

}  // namespace pregate::model
