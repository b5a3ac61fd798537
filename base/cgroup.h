// The control groups that limit this process.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace pregate {

struct CgroupFolder {
  int version = 2;  ///< 1 or 2: what its files are called.
  std::filesystem::path path;
};

/// The folders, existing or not, that may limit this process in what `controller` ("cpu", "memory")
/// controls: its own group's and those above it. In a container the name of a group may be the
/// host's: then its folder is not there, and the root is the container's own. `root` is where /proc
/// and /sys are.
std::vector<CgroupFolder> cgroup_folders(const std::filesystem::path& root,
                                         const std::string& controller);

}  // namespace pregate
