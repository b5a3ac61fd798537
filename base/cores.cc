#include "base/cores.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include "base/cgroup.h"

namespace pregate {
namespace {

using std::filesystem::path;

/// Nothing for what is no positive number: "max", "-1", or a file that is not there.
std::optional<double> parse_microseconds(const std::string& word) {
  uint64_t number = 0;
  const char* const last = word.data() + word.size();
  const auto [end, error] = std::from_chars(word.data(), last, number);
  if (error != std::errc() || end != last || number == 0) return std::nullopt;
  return static_cast<double>(number);
}

/// The n-th word of a file; empty where there is none.
std::string read_word(const path& file, int n = 0) {
  std::ifstream in(file);
  std::string word;
  for (int i = 0; i <= n; ++i) {
    word.clear();
    in >> word;
  }
  return word;
}

double quota_of(const CgroupFolder& folder) {
  const bool is_v2 = folder.version == 2;
  const path& in = folder.path;
  const auto quota =
      parse_microseconds(is_v2 ? read_word(in / "cpu.max") : read_word(in / "cpu.cfs_quota_us"));
  const auto period = parse_microseconds(is_v2 ? read_word(in / "cpu.max", 1)
                                               : read_word(in / "cpu.cfs_period_us"));
  return quota && period ? *quota / *period : kNoQuota;
}

}  // namespace

double cpu_quota(const path& root) {
  double least = kNoQuota;
  for (const CgroupFolder& folder : cgroup_folders(root, "cpu")) {
    least = std::min(least, quota_of(folder));
  }
  return least;
}

size_t cores_within(size_t cores, double quota) {
  const double least = std::min(static_cast<double>(cores), quota);
  return std::max<size_t>(1, static_cast<size_t>(least));
}

size_t usable_cores() { return cores_within(std::thread::hardware_concurrency(), cpu_quota()); }

}  // namespace pregate
