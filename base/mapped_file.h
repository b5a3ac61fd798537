// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "base/file_identity.h"
#include "base/result.h"

namespace pregate {

/// Owns the mapping; bytes() is valid while the object lives. Movable. Thread-safe to read.
/// Pages are read from disk when touched, so a process pays only for the bytes it uses.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  /// What the file was when it was opened.
  const FileIdentity& identity() const { return identity_; }
  /// Tells the kernel that the range is not needed any more; it is read again when touched.
  void drop(size_t offset, size_t length) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  FileIdentity identity_;
};

/// The whole of a small text file; an error names the path. Refuses files over `limit_bytes`.
Result<std::string> read_file(const std::filesystem::path& path, size_t limit_bytes = 256 << 20);

}  // namespace pregate
