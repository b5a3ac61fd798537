#include "base/file_identity.h"

#include <cerrno>
#include <cstring>

#include <sys/stat.h>

namespace pregate {

Result<FileIdentity> identify_file(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return identity_of(info);
  const int number = errno;
  const ErrorCode code = number == ENOENT ? ErrorCode::kNotFound : ErrorCode::kUnavailable;
  return fail(code, "{}: {}", path.string(), std::strerror(number));
}

FileIdentity identity_of(const struct ::stat& info) {
  constexpr int64_t kNsPerSecond = 1'000'000'000;
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .size_bytes = static_cast<uint64_t>(info.st_size),
          .modified_ns = info.st_mtim.tv_sec * kNsPerSecond + info.st_mtim.tv_nsec};
}

}  // namespace pregate
