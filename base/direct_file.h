// A file read past the page cache: each read takes what the disk takes, and no memory stays behind.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>

#include "base/result.h"

namespace pregate {

/// Bytes of a file, in memory of their own.
class FileBytes {
 public:
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  friend class DirectFile;
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::span<const std::byte> bytes_;
};

/// Thread-safe; movable.
class DirectFile {
 public:
  static Result<DirectFile> open(const std::filesystem::path& path);

  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&& other) noexcept;
  ~DirectFile();

  /// False where the file system refuses it: then reads go through the page cache, and what was
  /// read is taken out of it again.
  bool is_direct() const { return is_direct_; }
  /// Any range. kUnavailable when it cannot be read, kDataLoss when the file ends before; both name
  /// the file.
  Result<FileBytes> read(size_t offset, size_t length) const;

 private:
  DirectFile(std::filesystem::path path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::filesystem::path path_;
  int fd_ = -1;
  bool is_direct_ = true;
};

}  // namespace pregate
