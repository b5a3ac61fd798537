#include "model/chat/jinja/numbers.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

/// Removes underscores that stand between digits; false when one stands elsewhere.
bool drop_underscores(std::string& digits) {
  for (size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] != '_') continue;
    const bool between = i > 0 && i + 1 < digits.size() &&
                         std::isxdigit(static_cast<unsigned char>(digits[i - 1])) != 0 &&
                         std::isxdigit(static_cast<unsigned char>(digits[i + 1])) != 0;
    if (!between) return false;
  }
  std::erase(digits, '_');
  return true;
}

/// Of "0x_1f", 16 and "1f" remain: one underscore may follow a prefix.
void drop_base_prefix(std::string& digits, int& base) {
  if (digits.size() < 2 || digits[0] != '0') return;
  const char letter = static_cast<char>(digits[1] | 0x20);
  const int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (named == 0 || (base != 0 && base != named)) return;
  base = named;
  digits.erase(0, digits.size() > 2 && digits[2] == '_' ? 3 : 2);
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text, int base) {
  std::string digits(strip(text, true, true));
  const bool is_negative = !digits.empty() && digits[0] == '-';
  if (is_negative || (!digits.empty() && digits[0] == '+')) digits.erase(0, 1);
  drop_base_prefix(digits, base);
  if (base == 0) base = 10;
  if (base < 2 || base > 36) raise("int() base must be >= 2 and <= 36, or 0");
  if (digits.empty() || digits[0] == '-' || !drop_underscores(digits)) return std::nullopt;
  if (is_negative) digits.insert(0, 1, '-');
  int64_t number = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number, base);
  if (error == std::errc::result_out_of_range && stop == end)
    raise("integer {} is too large", text);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

std::optional<double> parse_float(std::string_view text) {
  std::string digits(strip(text, true, true));
  if (!digits.empty() && digits[0] == '+') digits.erase(0, 1);
  if (digits.empty() || digits[0] == '+' || !drop_underscores(digits)) return std::nullopt;
  if (digits.find('(') != std::string::npos) return std::nullopt;  // from_chars takes "nan(x)"
  double number = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (stop != end) return std::nullopt;
  if (error == std::errc::result_out_of_range) return std::strtod(digits.c_str(), nullptr);
  return error == std::errc() ? std::optional(number) : std::nullopt;
}

std::string float_text(double number) {
  if (std::isnan(number)) return "nan";
  std::string text = fmt::format("{}", number);
  if (std::all_of(text.begin(), text.end(), [](char c) { return is_ascii_digit(c) || c == '-'; })) {
    text += ".0";
  }
  return text;
}

int64_t truncate_to_integer(double number) {
  if (std::isnan(number)) raise("cannot convert float NaN to integer");
  if (std::isinf(number)) raise("cannot convert float infinity to integer");
  if (!(std::abs(number) < 0x1p63)) raise("integer {} is too large", number);
  return static_cast<int64_t>(number);
}

double round_float(double number, int64_t digits) {
  if (!std::isfinite(number)) return number;
  if (digits > 300) return number;
  if (digits < -308) return 0.0 * number;
  if (digits >= 0) return std::strtod(fmt::format("{:.{}f}", number, digits).c_str(), nullptr);
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(number / scale) * scale;
}

}  // namespace pregate::model::jinja
