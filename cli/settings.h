// Where a flag's value comes from: command line, else environment, else config file, else default.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace pregate::cli {

/// The value of an environment variable, if it is set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

/// The flag as people type it: "--max-model-len".
std::string flag_of(const CLI::Option& option);

/// "bench lookahead", with a space as separator, for the command `pregate bench lookahead`.
std::string command_words(const CLI::App& command, const std::string& separator);

/// "PREGATE_MAX_MODEL_LEN" for --max-model-len; of a flag with two names, for the first.
std::string environment_name(const CLI::Option& option);

/// Flags of `command` that can also come from elsewhere: all but --help and --config.
std::vector<CLI::Option*> settings_of(CLI::App& command);

/// Gives each flag of `command` that the parsed command line left open its value from its
/// environment variable or from the file that --config names. Keys before the first section of the
/// file serve every command that has such a flag; those of [serve] only `serve`, and first; those
/// of [bench-lookahead] only `bench lookahead`. Errors name the variable, or file, line and key;
/// unknown keys are errors wherever they stand.
Status apply_environment_and_config(CLI::App& app, CLI::App& command,
                                    const Environment& environment);

}  // namespace pregate::cli
