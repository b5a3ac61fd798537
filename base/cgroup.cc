#include "base/cgroup.h"

#include <fstream>

namespace pregate {
namespace {

using std::filesystem::path;

void add_folders(const path& mount, int version, const path& group,
                 std::vector<CgroupFolder>& folders) {
  for (path below = group.relative_path();; below = below.parent_path()) {
    folders.push_back({version, below.empty() ? mount : mount / below});
    if (below.empty()) return;
  }
}

}  // namespace

std::vector<CgroupFolder> cgroup_folders(const path& root, const std::string& controller) {
  const path mount = root / "sys/fs/cgroup";
  std::vector<CgroupFolder> folders;
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    // "4:memory:/group" or, version 2, "0::/group".
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const path group = line.substr(second + 1);
    if (controllers == ",,") add_folders(mount, 2, group, folders);
    if (controllers.find("," + controller + ",") != std::string::npos) {
      add_folders(mount / controller, 1, group, folders);
    }
  }
  return folders;
}

}  // namespace pregate
