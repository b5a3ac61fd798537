#include "coordinator/api/auth.h"

#include <sstream>

#include "base/mapped_file.h"

namespace pregate::coordinator {
namespace {

constexpr size_t kMaxKeyFileBytes = 1 << 20;

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

/// Looks at every byte of `given`, whatever it finds.
bool equal_in_constant_time(std::string_view given, std::string_view key) {
  volatile unsigned char difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    const char expected = key[i % key.size()];
    difference = static_cast<unsigned char>(difference | (given[i] ^ expected));
  }
  return difference == 0;
}

bool is_bearer(std::string_view scheme) {
  constexpr std::string_view kBearer = "bearer ";
  if (scheme.size() != kBearer.size()) return false;
  for (size_t i = 0; i < kBearer.size(); ++i) {
    if ((scheme[i] | 0x20) != kBearer[i]) return false;
  }
  return true;
}

}  // namespace

Result<std::vector<std::string>> read_api_keys(const std::filesystem::path& path,
                                               std::string_view flag) {
  PREGATE_ASSIGN(const std::string text, read_file(path, kMaxKeyFileBytes));
  std::vector<std::string> keys;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::string_view key = trimmed(line);
    if (!key.empty() && key.front() != '#') keys.emplace_back(key);
  }
  if (keys.empty()) {
    return fail(ErrorCode::kInvalidArgument, "{} {}: no key in it", flag, path.string());
  }
  return keys;
}

bool ApiKeys::admits(std::string_view authorization) const {
  if (keys_.empty()) return true;
  const std::string_view scheme = authorization.substr(0, std::string_view("Bearer ").size());
  if (!is_bearer(scheme)) return false;
  const std::string_view given = trimmed(authorization.substr(scheme.size()));
  bool admitted = false;
  for (const std::string& key : keys_) admitted = equal_in_constant_time(given, key) || admitted;
  return admitted;
}

}  // namespace pregate::coordinator
