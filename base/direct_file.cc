#include "base/direct_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace pregate {
namespace {

/// What disks and file systems ask of offsets, lengths and addresses: 512 or this.
constexpr size_t kAlignment = 4096;
/// The kernel reads no more than 2 GiB at once.
constexpr size_t kMaxReadBytes = size_t{1} << 30;

size_t round_down(size_t bytes) { return bytes / kAlignment * kAlignment; }
size_t round_up(size_t bytes) { return round_down(bytes + kAlignment - 1); }

tl::unexpected<Error> fail_errno(const std::filesystem::path& path, const char* what, int number) {
  const ErrorCode code = number == ENOENT ? ErrorCode::kNotFound : ErrorCode::kUnavailable;
  return fail(code, "{}: cannot {}: {}", path.string(), what, std::strerror(number));
}

/// Some file systems take the flag and refuse the first read.
bool reads_directly(int fd) {
  const std::unique_ptr<void, decltype(&std::free)> block(
      std::aligned_alloc(kAlignment, kAlignment), &std::free);
  return ::pread(fd, block.get(), kAlignment, 0) >= 0 || errno != EINVAL;
}

/// Reads until `length` or the end of the file; how much, or -1 with errno.
ssize_t read_all(int fd, std::byte* to, size_t length, size_t offset) {
  size_t done = 0;
  while (done < length) {
    const size_t count = std::min(length - done, kMaxReadBytes);
    const ssize_t got = ::pread(fd, to + done, count, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    done += static_cast<size_t>(got);
    // Direct reads end in the middle of a block only where the file ends.
    if (got == 0 || static_cast<size_t>(got) % kAlignment != 0) break;
  }
  return static_cast<ssize_t>(done);
}

}  // namespace

Result<DirectFile> DirectFile::open(const std::filesystem::path& path) {
  DirectFile file(path, ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
  if (file.fd_ >= 0 && reads_directly(file.fd_)) return file;
  if (file.fd_ < 0 && errno != EINVAL) return fail_errno(path, "open", errno);
  DirectFile buffered(path, ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (buffered.fd_ < 0) return fail_errno(path, "open", errno);
  buffered.is_direct_ = false;
  return buffered;
}

DirectFile::DirectFile(DirectFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      is_direct_(other.is_direct_) {}

DirectFile& DirectFile::operator=(DirectFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(is_direct_, other.is_direct_);
  return *this;
}

DirectFile::~DirectFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<FileBytes> DirectFile::read(size_t offset, size_t length) const {
  const size_t begin = round_down(offset);
  const size_t count = std::max(round_up(offset + length) - begin, kAlignment);
  FileBytes result;
  result.memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, count)));
  if (result.memory_ == nullptr) {
    return fail(ErrorCode::kUnavailable, "{}: no memory for {} bytes", path_.string(), count);
  }
  const ssize_t got = read_all(fd_, result.memory_.get(), count, begin);
  if (got < 0) return fail_errno(path_, "read", errno);
  if (!is_direct_) {
    ::posix_fadvise(fd_, static_cast<off_t>(begin), static_cast<off_t>(count), POSIX_FADV_DONTNEED);
  }
  if (begin + static_cast<size_t>(got) < offset + length) {
    return fail(ErrorCode::kDataLoss, "{}: ends at byte {}, expected at least {}", path_.string(),
                begin + static_cast<size_t>(got), offset + length);
  }
  result.bytes_ = {result.memory_.get() + (offset - begin), length};
  return result;
}

}  // namespace pregate
