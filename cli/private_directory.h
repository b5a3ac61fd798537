// A directory that only this user can look into, for as long as it is needed.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace pregate::cli {

class PrivateDirectory {
 public:
  /// Below the system's directory for temporary files.
  static Result<PrivateDirectory> create();
  PrivateDirectory(PrivateDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PrivateDirectory& operator=(PrivateDirectory&&) = delete;
  /// remove().
  ~PrivateDirectory();

  const std::filesystem::path& path() const { return path_; }
  /// A file that only its owner can read.
  Result<std::filesystem::path> write(const std::string& name, const std::string& text) const;
  /// With all that is in it.
  void remove() noexcept;

 private:
  explicit PrivateDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;  // empty once removed
};

}  // namespace pregate::cli
