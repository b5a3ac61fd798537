#include "cli/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

namespace pregate::cli {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

// Largest first, so that formatting takes the first that divides.
constexpr std::array kByteUnits = {Unit{"T", uint64_t{1} << 40}, Unit{"G", uint64_t{1} << 30},
                                   Unit{"M", uint64_t{1} << 20}, Unit{"K", uint64_t{1} << 10},
                                   Unit{"", 1}};
constexpr std::array kTimeUnits = {Unit{"h", 3'600'000}, Unit{"m", 60'000}, Unit{"s", 1'000},
                                   Unit{"ms", 1}};

struct Amount {
  double number;
  std::string_view unit;
};

std::optional<Amount> split_amount(std::string_view text) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || number < 0) return std::nullopt;
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  return Amount{number, unit};
}

std::optional<uint64_t> scale(const Amount& amount, uint64_t factor) {
  const double value = std::round(amount.number * static_cast<double>(factor));
  // 2^63: what any reader of these numbers can still hold in a signed integer.
  if (value >= 9223372036854775808.0) return std::nullopt;
  return static_cast<uint64_t>(value);
}

std::string format_in(std::span<const Unit> units, uint64_t value) {
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) return fmt::format("{}{}", value / unit.factor, unit.name);
  }
  return std::to_string(value);
}

}  // namespace

Result<uint64_t> parse_bytes(std::string_view text) {
  if (auto amount = split_amount(text)) {
    for (std::string_view suffix : {"iB", "B"}) {
      if (amount->unit.ends_with(suffix)) {
        amount->unit.remove_suffix(suffix.size());
        break;
      }
    }
    for (const Unit& unit : kByteUnits) {
      if (unit.name != amount->unit) continue;
      if (const auto bytes = scale(*amount, unit.factor)) return *bytes;
    }
  }
  return fail(ErrorCode::kInvalidArgument,
              "expected a size such as 4096, 512M or 1.5G (K, M, G, T), got \"{}\"", text);
}

std::string format_bytes(uint64_t bytes) { return bytes == 0 ? "0" : format_in(kByteUnits, bytes); }

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  if (auto amount = split_amount(text)) {
    if (amount->unit.empty()) amount->unit = "s";
    for (const Unit& unit : kTimeUnits) {
      if (unit.name != amount->unit) continue;
      if (const auto value = scale(*amount, unit.factor)) return std::chrono::milliseconds(*value);
    }
  }
  return fail(ErrorCode::kInvalidArgument,
              "expected a time such as 250ms, 1.5s, 2m or 1h, got \"{}\"", text);
}

std::string format_duration(std::chrono::milliseconds duration) {
  return duration.count() == 0 ? "0s"
                               : format_in(kTimeUnits, static_cast<uint64_t>(duration.count()));
}

}  // namespace pregate::cli
