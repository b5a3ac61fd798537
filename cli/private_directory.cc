#include "cli/private_directory.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

namespace pregate::cli {

Result<PrivateDirectory> PrivateDirectory::create() {
  std::string pattern = (std::filesystem::temp_directory_path() / "pregate-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    return fail(ErrorCode::kUnavailable, "{}: cannot make a directory: {}", pattern,
                std::strerror(errno));
  }
  return PrivateDirectory(pattern);
}

PrivateDirectory::~PrivateDirectory() { remove(); }

Result<std::filesystem::path> PrivateDirectory::write(const std::string& name,
                                                      const std::string& text) const {
  const std::filesystem::path file = path_ / name;
  const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool written =
      fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  if (fd >= 0) close(fd);
  if (!written) {
    return fail(ErrorCode::kUnavailable, "{}: cannot be written: {}", file.string(),
                std::strerror(error));
  }
  return file;
}

void PrivateDirectory::remove() noexcept {
  if (path_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  path_.clear();
}

}  // namespace pregate::cli
