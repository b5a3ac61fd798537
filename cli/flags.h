// Flags with units, over CLI11: every value is checked here and every message has one form. Each
// flag can also be given as an environment variable or in the config file; see settings.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace pregate::cli {

/// What --help shows for the value, and what decides the types a config file may use for it.
inline constexpr const char* kCountType = "N";
inline constexpr const char* kBytesType = "BYTES";
inline constexpr const char* kDurationType = "TIME";
inline constexpr const char* kShareType = "SHARE";
inline constexpr const char* kTextType = "TEXT";
inline constexpr const char* kPathType = "PATH";

struct Range {
  uint64_t min = 0;
  uint64_t max = UINT64_MAX;
};

/// Adds flags to one command. The variables bound must outlive it; what they hold when the flag is
/// added is the default.
class Flags {
 public:
  explicit Flags(CLI::App& command) : command_(command) {}

  /// The heading in --help for the flags that follow.
  void group(std::string heading) { group_ = std::move(heading); }

  /// An argument without a flag; the command cannot do without it.
  void positional(const std::string& name, std::string& value, const std::string& help);
  /// One or more of them.
  void positionals(const std::string& name, std::vector<std::filesystem::path>& values,
                   const std::string& help);
  void positionals(const std::string& name, std::vector<std::string>& values,
                   const std::string& help);

  CLI::Option* count(const std::string& flag, size_t& value, Range range, const std::string& help);
  /// Without a default: stays empty unless given.
  CLI::Option* count(const std::string& flag, std::optional<size_t>& value, Range range,
                     const std::string& help);
  CLI::Option* bytes(const std::string& flag, uint64_t& value, const std::string& help);
  CLI::Option* duration(const std::string& flag, std::chrono::milliseconds& value,
                        const std::string& help);
  /// From 0 to 1.
  CLI::Option* share(const std::string& flag, double& value, const std::string& help);
  CLI::Option* text(const std::string& flag, std::string& value, const std::string& help);
  CLI::Option* path(const std::string& flag, std::filesystem::path& value, const std::string& help);
  CLI::Option* toggle(const std::string& flag, bool& value, const std::string& help);

  /// One of a few names, such as {{"bf16", WeightFormat::kBf16}, ...}.
  template <typename T>
  CLI::Option* choice(const std::string& flag, T& value,
                      const std::vector<std::pair<std::string, T>>& choices,
                      const std::string& help) {
    std::vector<std::string> names;
    std::string current;
    for (const auto& [name, meaning] : choices) {
      names.push_back(name);
      if (meaning == value) current = name;
    }
    const auto choose = [choices, &value](size_t i) { value = choices[i].second; };
    return add_choice(flag, names, current, choose, help);
  }

 private:
  /// `parse` sets the value or says what it expected.
  CLI::Option* add(const std::string& flag, std::function<Status(const std::string&)> parse,
                   const std::string& help);
  CLI::Option* add_choice(const std::string& flag, const std::vector<std::string>& names,
                          const std::string& current, std::function<void(size_t)> choose,
                          const std::string& help);

  CLI::App& command_;
  std::string group_ = "Options";
};

}  // namespace pregate::cli
