// Tells whether a file is still the one that was opened.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/result.h"

struct stat;

namespace pregate {

/// Differs once another file has taken its place or somebody has written to it.
struct FileIdentity {
  uint64_t device = 0, inode = 0;
  uint64_t size_bytes = 0;
  int64_t modified_ns = 0;

  bool operator==(const FileIdentity&) const = default;
};

/// Of what is at `path` now. kNotFound if there is nothing, kUnavailable if that cannot be found
/// out.
Result<FileIdentity> identify_file(const std::filesystem::path& path);

/// Of what stat() said.
FileIdentity identity_of(const struct ::stat& info);

}  // namespace pregate
