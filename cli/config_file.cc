#include "cli/config_file.h"

#include <algorithm>

#include <toml++/toml.h>

#include "base/mapped_file.h"

namespace pregate::cli {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path.string()) {}

  Status read_root(const toml::table& root) {
    for (const auto& [key, node] : root) {
      if (const toml::table* section = node.as_table()) {
        for (const auto& [inner_key, inner] : *section) {
          PREGATE_TRY(add(std::string(key.str()), inner_key, inner));
        }
      } else {
        PREGATE_TRY(add("", key, node));
      }
    }
    std::sort(entries_.begin(), entries_.end(),
              [](const auto& a, const auto& b) { return a.line < b.line; });
    return {};
  }

  std::vector<ConfigEntry> take() { return std::move(entries_); }

 private:
  Status add(std::string section, const toml::key& key, const toml::node& node) {
    ConfigEntry entry{.section = std::move(section),
                      .key = std::string(key.str()),
                      .line = key.source().begin.line};
    std::replace(entry.key.begin(), entry.key.end(), '_', '-');
    for (const ConfigEntry& other : entries_) {
      if (other.section == entry.section && other.key == entry.key) {
        return fail(ErrorCode::kInvalidArgument, "{}:{}: {}: given twice, first in line {}", path_,
                    std::max(entry.line, other.line), entry.key, std::min(entry.line, other.line));
      }
    }
    if (!set_value(entry, node)) {
      return fail(ErrorCode::kInvalidArgument, "{}:{}: {}: expected one value", path_, entry.line,
                  entry.key);
    }
    entries_.push_back(std::move(entry));
    return {};
  }

  static bool set_value(ConfigEntry& entry, const toml::node& node) {
    if (const auto* boolean = node.as_boolean()) {
      entry.type = ConfigType::kBoolean;
      entry.text = boolean->get() ? "true" : "false";
    } else if (const auto* integer = node.as_integer()) {
      entry.type = ConfigType::kInteger;
      entry.text = std::to_string(integer->get());
    } else if (const auto* number = node.as_floating_point()) {
      entry.type = ConfigType::kFloat;
      entry.text = fmt::format("{}", number->get());
    } else if (const auto* text = node.as_string()) {
      entry.type = ConfigType::kText;
      entry.text = text->get();
    } else {
      return false;
    }
    return true;
  }

  const std::string path_;
  std::vector<ConfigEntry> entries_;
};

}  // namespace

std::string_view to_string(ConfigType type) {
  switch (type) {
    case ConfigType::kBoolean:
      return "true or false";
    case ConfigType::kInteger:
      return "a whole number";
    case ConfigType::kFloat:
      return "a number";
    case ConfigType::kText:
      return "text in quotes";
  }
  return "a value";
}

Result<std::vector<ConfigEntry>> read_config_file(const std::filesystem::path& path) {
  PREGATE_ASSIGN(const std::string text, read_file(path, kMaxConfigBytes));
  Reader reader(path);
  try {
    PREGATE_TRY(reader.read_root(toml::parse(text)));
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::kInvalidArgument, "{}:{}: not valid TOML: {}", path.string(),
                error.source().begin.line, error.description());
  }
  return reader.take();
}

}  // namespace pregate::cli
