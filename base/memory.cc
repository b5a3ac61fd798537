#include "base/memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "base/cgroup.h"

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
  const char *limit, *usage, *reclaimable;
};
constexpr CgroupFiles kV1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr CgroupFiles kV2{"memory.max", "memory.current", "inactive_file"};

/// What the limit of one cgroup leaves; UINT64_MAX without a limit.
uint64_t room_in(const CgroupFolder& folder) {
  const CgroupFiles& files = folder.version == 1 ? kV1 : kV2;
  const auto limit = read_number(folder.path / files.limit);
  const auto usage = read_number(folder.path / files.usage);
  if (!limit || !usage) return UINT64_MAX;
  const uint64_t cached = read_field(folder.path / "memory.stat", files.reclaimable).value_or(0);
  const uint64_t used = *usage - std::min(*usage, cached);
  return *limit - std::min(*limit, used);
}

/// What the cgroups of this process leave.
uint64_t cgroup_room(const path& root) {
  uint64_t room = UINT64_MAX;
  for (const CgroupFolder& folder : cgroup_folders(root, "memory")) {
    room = std::min(room, room_in(folder));
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
