#include "base/memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace pregate {
namespace {

using std::filesystem::path;

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return number;
}

/// The first word of a file; nothing for "max" and where there is no such file.
std::optional<uint64_t> read_number(const path& file) {
  std::ifstream in(file);
  std::string word;
  in >> word;
  return parse_number(word);
}

/// The number after `key` in a file of lines "key number".
std::optional<uint64_t> read_field(const path& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name, number;
    words >> name >> number;
    if (name == key) return parse_number(number);
  }
  return std::nullopt;
}

/// What the two versions of cgroups call their files.
struct CgroupFiles {
  path root;
  const char *limit, *usage, *reclaimable;
};

/// What the limit of one cgroup leaves.
std::optional<uint64_t> room_in(const path& folder, const CgroupFiles& files) {
  const auto limit = read_number(folder / files.limit);
  const auto usage = read_number(folder / files.usage);
  if (!limit || !usage) return std::nullopt;
  const uint64_t cached = read_field(folder / "memory.stat", files.reclaimable).value_or(0);
  const uint64_t used = *usage - std::min(*usage, cached);
  return *limit - std::min(*limit, used);
}

/// The least that a cgroup and those above it leave. In a container the path may be the host's:
/// then its folder is not there, and the root is the container's own.
uint64_t room_along(const path& group, const CgroupFiles& files) {
  uint64_t room = UINT64_MAX;
  path folder = group.relative_path();
  for (;;) {
    room = std::min(room, room_in(files.root / folder, files).value_or(UINT64_MAX));
    if (folder.empty()) return room;
    folder = folder.parent_path();
  }
}

/// What the cgroups of this process leave; UINT64_MAX without a limit.
uint64_t cgroup_room(const path& root) {
  const CgroupFiles v1{root / "sys/fs/cgroup/memory", "memory.limit_in_bytes",
                       "memory.usage_in_bytes", "total_inactive_file"};
  const CgroupFiles v2{root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};
  uint64_t room = UINT64_MAX;
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    // "4:memory:/group" or, version 2, "0::/group".
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const path group = line.substr(second + 1);
    if (controllers == ",,") room = std::min(room, room_along(group, v2));
    if (controllers.find(",memory,") != std::string::npos) {
      room = std::min(room, room_along(group, v1));
    }
  }
  return room;
}

}  // namespace

uint64_t available_memory_bytes(const path& root) {
  const auto free_kib = read_field(root / "proc/meminfo", "MemAvailable:");
  const uint64_t room = cgroup_room(root);
  const uint64_t free_bytes = free_kib ? *free_kib * 1024 : UINT64_MAX;
  const uint64_t least = std::min(room, free_bytes);
  return least == UINT64_MAX ? 0 : least;
}

uint64_t less_reserve(uint64_t available_bytes) {
  constexpr uint64_t kLeastReserve = uint64_t{512} << 20;
  const uint64_t reserve = std::max(available_bytes / 10, kLeastReserve);
  return available_bytes - std::min(reserve, available_bytes / 2);
}

}  // namespace pregate
