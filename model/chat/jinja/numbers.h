// Python's text to numbers and back.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pregate::model::jinja {

/// int(text, base): white space around, a sign and underscores between digits are allowed. None
/// where Python raises ValueError; raises when the number does not fit 64 bits.
std::optional<int64_t> parse_integer(std::string_view text, int64_t base);
/// float(text).
std::optional<double> parse_float(std::string_view text);
/// repr(number): the shortest digits that read back as the same number.
std::string float_text(double number);
/// int(number); raises for infinity and NaN, and when it does not fit 64 bits.
int64_t truncate_to_integer(double number);
/// round(number, digits): half to even on the exact value.
double round_float(double number, int64_t digits);

}  // namespace pregate::model::jinja
