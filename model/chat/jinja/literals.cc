#include "model/chat/jinja/literals.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/numbers.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

bool is_digit_of(char c, int base) {
  const int lower = c | 0x20;
  const int digit = c >= '0' && c <= '9'           ? c - '0'
                    : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                                   : 99;
  return digit < base;
}

/// Length of `digit (_? digit)*` at `position`; 0: none.
size_t digits_at(std::string_view text, size_t position, int base) {
  size_t end = position;
  while (end < text.size()) {
    const bool skips = text[end] == '_' && end > position;
    const size_t digit = end + (skips ? 1 : 0);
    if (digit >= text.size() || !is_digit_of(text[digit], base)) break;
    end = digit + 1;
  }
  return end - position;
}

/// Length of a number with a fraction or an exponent; 0: there is none.
size_t float_size(std::string_view text) {
  size_t size = digits_at(text, 0, 10);
  if (size == 0) return 0;
  bool is_float = false;
  if (size < text.size() && text[size] == '.') {
    const size_t fraction = digits_at(text, size + 1, 10);
    if (fraction == 0) return 0;
    size += 1 + fraction;
    is_float = true;
  }
  if (size < text.size() && (text[size] | 0x20) == 'e') {
    const bool has_sign =
        size + 1 < text.size() && (text[size + 1] == '+' || text[size + 1] == '-');
    const size_t begin = size + (has_sign ? 2 : 1);
    const size_t exponent = digits_at(text, begin, 10);
    if (exponent > 0) return begin + exponent;
  }
  return is_float ? size : 0;
}

size_t integer_size(std::string_view text) {
  if (text.size() > 2 && text[0] == '0') {
    const char letter = static_cast<char>(text[1] | 0x20);
    const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    const size_t begin = text[2] == '_' ? 3 : 2;
    const size_t size = base == 0 ? 0 : digits_at(text, begin, base);
    if (size > 0) return begin + size;
  }
  return text.empty() ? 0 : digits_at(text, 0, text[0] == '0' ? 1 : 10);
}

int octal_digits(std::string_view text) {
  int count = 0;
  while (count < 3 && static_cast<size_t>(count) < text.size() && is_digit_of(text[count], 8)) {
    ++count;
  }
  return count;
}

/// Reads the escapes of a string literal one by one.
class Unescaper {
 public:
  Unescaper(std::string_view text, int line) : text_(text), line_(line) {}

  std::string run() {
    while (position_ < text_.size()) {
      const char c = text_[position_++];
      if (c == '\\' && position_ < text_.size()) {
        escape(text_[position_++]);
      } else {
        out_ += c;
      }
    }
    return std::move(out_);
  }

 private:
  void escape(char letter) {
    constexpr std::string_view kLetters = "abfnrtv\\'\"";
    constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (letter == '\n') return;
    if (const size_t at = kLetters.find(letter); at != std::string_view::npos) {
      out_ += kMeanings[at];
    } else if (letter == 'x' || letter == 'u' || letter == 'U') {
      append_code(letter == 'x' ? 2 : letter == 'u' ? 4 : 8, letter);
    } else if (letter >= '0' && letter <= '7') {
      append_octal();
    } else if (letter == 'N') {
      raise_at(line_, "character names (\\N{{...}}) are not supported in strings");
    } else {
      out_ += '\\';
      out_ += letter;
    }
  }

  void append_code(size_t digits, char letter) {
    uint32_t code = 0;
    const char* begin = text_.data() + position_;
    const char* end = begin + std::min(digits, text_.size() - position_);
    const auto [stop, error] = std::from_chars(begin, end, code, 16);
    if (error != std::errc() || stop != begin + digits) {
      raise_at(line_, "truncated \\{} escape in a string", letter);
    }
    position_ += digits;
    if (code > 0x10ffff) raise_at(line_, "\\{} escape beyond Unicode in a string", letter);
    append_utf8(out_, code);
  }

  void append_octal() {
    --position_;
    const auto digits = static_cast<size_t>(octal_digits(text_.substr(position_)));
    uint32_t code = 0;
    const char* begin = text_.data() + position_;
    std::from_chars(begin, begin + digits, code, 8);
    position_ += digits;
    append_utf8(out_, code);
  }

  std::string_view text_;
  int line_;
  size_t position_ = 0;
  std::string out_;
};

Value parse_number(std::string_view digits, bool is_float) {
  if (is_float) {
    if (const auto number = parse_float(digits)) return *number;
  } else if (const auto number = parse_integer(digits, 0)) {
    return *number;
  }
  raise("invalid number '{}'", digits);
}

}  // namespace

NumberLiteral read_number(std::string_view text, int line) {
  size_t size = float_size(text);
  const bool is_float = size > 0;
  if (!is_float) size = integer_size(text);
  try {
    return {parse_number(text.substr(0, size), is_float), size};
  } catch (const Failure& failure) {
    raise_at(line, "{}", failure.what());
  }
}

std::string unescape(std::string_view text, int line) { return Unescaper(text, line).run(); }

}  // namespace pregate::model::jinja
