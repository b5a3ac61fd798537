// Sizes and times as people write them; for people to read: describe_bytes().
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace pregate::cli {

/// "4096", "512M", "1.5G", "4GiB": K, M, G and T are powers of 1024.
Result<uint64_t> parse_bytes(std::string_view text);

/// The shortest form that parse_bytes() reads back as the same number.
std::string format_bytes(uint64_t bytes);

/// "250ms", "1.5s", "2m", "1h"; a number without a unit is in seconds.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// The shortest form that parse_duration() reads back as the same time.
std::string format_duration(std::chrono::milliseconds duration);

}  // namespace pregate::cli
