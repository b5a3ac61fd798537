// How many cores a process may keep busy.
#pragma once

#include <cstddef>
#include <filesystem>
#include <limits>

namespace pregate {

inline constexpr double kNoQuota = std::numeric_limits<double>::infinity();

/// Cores' worth of time that the quotas of this process's cgroup (version 1 or 2) and of those
/// above it leave, whichever is least; kNoQuota without one. `root` is where /proc and /sys are.
double cpu_quota(const std::filesystem::path& root = "/");

/// `cores` as far as `quota` lets all of them run all the time; at least one. Rounded down: a
/// thread with half a core would make every batch wait for it.
size_t cores_within(size_t cores, double quota);

/// Those this process may run on, within its quota.
size_t usable_cores();

}  // namespace pregate
