// How much memory a process may still take.
#pragma once

#include <cstdint>
#include <filesystem>

namespace pregate {

/// What the machine has free, and what the limits of this process's cgroup (version 1 or 2) and of
/// those above it leave, whichever is least. Pages of files that can be read again count as free.
/// 0 if nothing of that can be found out. `root` is where /proc and /sys are.
uint64_t available_memory_bytes(const std::filesystem::path& root = "/");

/// `available` less a reserve for everything else that needs memory, now and later: a tenth, but at
/// least 512 MiB, and at most half.
uint64_t less_reserve(uint64_t available_bytes);

}  // namespace pregate
