// Reads a TOML config file into plain entries; what the keys mean is decided in settings.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace pregate::cli {

enum class ConfigType { kBoolean, kInteger, kFloat, kText };

std::string_view to_string(ConfigType type);

struct ConfigEntry {
  std::string section;  ///< Empty for what stands before the first [section].
  std::string key;      ///< As on the command line: '_' has become '-'.
  uint32_t line = 0;
  ConfigType type = ConfigType::kText;
  std::string text;
};

/// Entries in the order of their lines. Errors name file and line: not TOML, a key given twice, a
/// list or table where one value was expected.
Result<std::vector<ConfigEntry>> read_config_file(const std::filesystem::path& path);

}  // namespace pregate::cli
