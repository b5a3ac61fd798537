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

/// A digit of any base; whether it is one of the number's base, the conversion decides.
bool is_ascii_alphanumeric(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

/// Removes underscores that stand between digits; false when one stands elsewhere.
bool drop_underscores(std::string& digits, bool (*is_digit)(char)) {
  for (size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] != '_') continue;
    const bool between =
        i > 0 && i + 1 < digits.size() && is_digit(digits[i - 1]) && is_digit(digits[i + 1]);
    if (!between) return false;
  }
  std::erase(digits, '_');
  return true;
}

/// Of "0x_1f", 16 and "1f" remain: one underscore may follow a prefix.
void drop_base_prefix(std::string& digits, int64_t& base) {
  if (digits.size() < 2 || digits[0] != '0') return;
  const char letter = static_cast<char>(digits[1] | 0x20);
  const int64_t named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (named == 0 || (base != 0 && base != named)) return;
  base = named;
  digits.erase(0, digits.size() > 2 && digits[2] == '_' ? 3 : 2);
}

/// Base 0 takes no "012", which would be octal in other languages.
bool is_ambiguous(std::string_view digits) {
  return digits.starts_with('0') && digits.find_first_not_of("0_") != std::string_view::npos;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  std::string digits(strip(text, true, true));
  const bool is_negative = !digits.empty() && digits[0] == '-';
  if (is_negative || (!digits.empty() && digits[0] == '+')) digits.erase(0, 1);
  drop_base_prefix(digits, base);
  if (base == 0 && is_ambiguous(digits)) return std::nullopt;
  if (base == 0) base = 10;
  if (base < 2 || base > 36) return std::nullopt;
  if (digits.empty() || digits[0] == '-') return std::nullopt;
  if (!drop_underscores(digits, is_ascii_alphanumeric)) return std::nullopt;
  if (is_negative) digits.insert(0, 1, '-');
  int64_t number = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number, static_cast<int>(base));
  if (error == std::errc::result_out_of_range && stop == end)
    raise("integer {} is too large", text);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

std::optional<double> parse_float(std::string_view text) {
  std::string digits(strip(text, true, true));
  const bool has_plus = digits.starts_with('+');
  if (has_plus) digits.erase(0, 1);
  if (has_plus && digits.starts_with('-')) return std::nullopt;
  if (!drop_underscores(digits, is_ascii_digit)) return std::nullopt;
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
