// Who may use the API.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pregate::coordinator {

/// The keys of a file: one per line, blank lines and lines that begin with # left out. An error for
/// a file without any, which would leave the server open. `flag` is what named the file.
Result<std::vector<std::string>> read_api_keys(const std::filesystem::path& path,
                                               std::string_view flag = "--api-key-file");

/// Immutable; thread-safe. Without keys everybody is let in.
class ApiKeys {
 public:
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}

  /// `authorization`: the header, "Bearer KEY". Takes the same time for every wrong key of one
  /// length, so that a key cannot be guessed letter by letter.
  bool admits(std::string_view authorization) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace pregate::coordinator
