#include "cli/settings.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <iterator>

#include <CLI/CLI.hpp>

#include "cli/config_file.h"
#include "cli/flags.h"
#include "cli/suggest.h"

namespace pregate::cli {
namespace {

constexpr const char* kConfigKey = "config";

std::string key_of(const CLI::Option& option) { return option.get_single_name(); }

CLI::Option* find(CLI::App& command, const std::string& key) {
  for (CLI::Option* option : settings_of(command)) {
    const auto& names = option->get_lnames();
    if (std::ranges::find(names, key) != names.end()) return option;
  }
  return nullptr;
}

/// Those that are part of another one too.
std::vector<CLI::App*> commands_of(CLI::App& app) {
  std::vector<CLI::App*> commands;
  for (CLI::App* command : app.get_subcommands({})) {
    commands.push_back(command);
    std::ranges::copy(commands_of(*command), std::back_inserter(commands));
  }
  return commands;
}

std::string variable_of(const std::string& key) {
  std::string name = "PREGATE_" + key;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char letter) {
    return letter == '-' ? '_' : static_cast<char>(std::toupper(letter));
  });
  return name;
}

std::string section_of(const CLI::App& command) { return command_words(command, "-"); }

std::vector<ConfigType> types_for(const CLI::Option& option) {
  if (option.get_expected_max() == 0) return {ConfigType::kBoolean};
  const std::string type = option.get_type_name();
  if (type == kCountType) return {ConfigType::kInteger};
  if (type == kBytesType) return {ConfigType::kInteger, ConfigType::kText};
  if (type == kDurationType) return {ConfigType::kText, ConfigType::kInteger, ConfigType::kFloat};
  if (type == kShareType) return {ConfigType::kFloat, ConfigType::kInteger};
  return {ConfigType::kText};
}

// CLI11 checks and stores; only the message is ours: `source` says where the value was found.
Status set(CLI::Option& option, const std::string& text, const std::string& source) {
  try {
    option.add_result(text);
    option.run_callback();
  } catch (const CLI::Error& error) {
    std::string message = error.what();
    const std::string prefix = flag_of(option) + ": ";
    if (message.starts_with(prefix)) message.erase(0, prefix.size());
    return fail(ErrorCode::kInvalidArgument, "{}: {}", source, message);
  }
  return {};
}

Status set_from_environment(CLI::App& command, const Environment& environment) {
  for (CLI::Option* option : settings_of(command)) {
    for (const std::string& key : option->get_lnames()) {
      if (option->count() > 0) break;
      const std::string name = variable_of(key);
      if (const auto value = environment(name)) PREGATE_TRY(set(*option, *value, name));
    }
  }
  return {};
}

class ConfigApplier {
 public:
  ConfigApplier(CLI::App& app, CLI::App& command, std::string path)
      : app_(app), command_(command), path_(std::move(path)) {}

  Status apply(const std::vector<ConfigEntry>& entries) {
    for (const ConfigEntry& entry : entries) PREGATE_TRY(check(entry));
    // The command's own section first: what it sets is no longer open for the general keys.
    for (const std::string& section : {section_of(command_), std::string()}) {
      for (const ConfigEntry& entry : entries) {
        CLI::Option* option = entry.section == section ? find(command_, entry.key) : nullptr;
        if (option == nullptr || option->count() > 0) continue;
        PREGATE_TRY(set(*option, entry.text, where(entry)));
      }
    }
    return {};
  }

 private:
  std::string where(const ConfigEntry& entry) const {
    return fmt::format("{}:{}: {}", path_, entry.line, entry.key);
  }

  // A mistake in the part of another command is reported too: files are shared by all of a cluster.
  Status check(const ConfigEntry& entry) {
    std::vector<CLI::App*> readers;
    std::vector<std::string> sections;
    for (CLI::App* each : commands_of(app_)) {
      sections.push_back(section_of(*each));
      if (entry.section.empty() || entry.section == sections.back()) readers.push_back(each);
    }
    if (readers.empty()) {
      return fail(ErrorCode::kInvalidArgument, "{}:{}: [{}] is no command{}", path_, entry.line,
                  entry.section, did_you_mean(entry.section, sections));
    }
    CLI::Option* option = nullptr;
    std::vector<std::string> keys;
    for (CLI::App* reader : readers) {
      if (option == nullptr) option = find(*reader, entry.key);
      for (const CLI::Option* each : settings_of(*reader)) keys.push_back(key_of(*each));
    }
    if (option == nullptr) {
      return fail(ErrorCode::kInvalidArgument, "{}: unknown key{}", where(entry),
                  did_you_mean(entry.key, keys));
    }
    return check_type(entry, *option);
  }

  Status check_type(const ConfigEntry& entry, const CLI::Option& option) const {
    const auto accepted = types_for(option);
    if (std::find(accepted.begin(), accepted.end(), entry.type) != accepted.end()) return {};
    return fail(ErrorCode::kInvalidArgument, "{}: expected {}, got {}", where(entry),
                to_string(accepted.front()), entry.text);
  }

  CLI::App& app_;
  CLI::App& command_;
  const std::string path_;
};

}  // namespace

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  };
}

std::string flag_of(const CLI::Option& option) { return option.get_name(); }

std::string command_words(const CLI::App& command, const std::string& separator) {
  const CLI::App* parent = command.get_parent();
  const bool nested = parent != nullptr && parent->get_parent() != nullptr;
  return nested ? command_words(*parent, separator) + separator + command.get_name()
                : command.get_name();
}

std::string environment_name(const CLI::Option& option) { return variable_of(key_of(option)); }

std::vector<CLI::Option*> settings_of(CLI::App& command) {
  return command.get_options([](const CLI::Option* option) {
    const std::string key = key_of(*option);
    return option->nonpositional() && key != "help" && key != kConfigKey;
  });
}

Status apply_environment_and_config(CLI::App& app, CLI::App& command,
                                    const Environment& environment) {
  PREGATE_TRY(set_from_environment(command, environment));
  CLI::Option* config = command.get_option_no_throw(std::string("--") + kConfigKey);
  if (config == nullptr) return {};
  if (config->count() == 0) {
    const std::string name = environment_name(*config);
    if (const auto path = environment(name)) PREGATE_TRY(set(*config, *path, name));
  }
  if (config->count() == 0) return {};
  const std::string path = config->results().front();
  PREGATE_ASSIGN(const auto entries, read_config_file(path));
  return ConfigApplier(app, command, path).apply(entries);
}

}  // namespace pregate::cli
