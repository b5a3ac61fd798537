// Sizes for people.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

#include <fmt/format.h>

namespace pregate {

/// Rounded: "6.9 GiB".
inline std::string describe_bytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double amount = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; bytes >= 1024 * 1024 && unit + 1 < std::size(kUnits); bytes /= 1024, ++unit) {
    amount /= 1024;
  }
  return fmt::format("{:.1f} {}", amount, kUnits[unit]);
}

}  // namespace pregate
