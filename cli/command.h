// A subcommand of the program. Each has a file of its own with a function that adds it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/settings.h"

namespace pregate::cli {

struct Command {
  CLI::App* app = nullptr;
  std::function<Status()> run;             ///< Called when all flags have their values.
  std::vector<const CLI::Option*> needed;  ///< Flags without a default.
};

/// A subcommand of `app` to which flags can be added; `footer` ends its --help.
Command make_command(CLI::App& app, const std::string& name, const std::string& description,
                     const std::string& footer);

enum ExitCode { kExitOk = 0, kExitFailed = 1, kExitUsage = 2 };

/// Parses the arguments, runs the command they name and returns the exit code. Messages go to
/// standard error, what was asked for (--help, inspect, ...) to standard output.
int run_command(CLI::App& app, const std::vector<Command>& commands,
                const std::vector<std::string>& arguments, const Environment& environment);

}  // namespace pregate::cli
