#include "cli/command.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include <CLI/CLI.hpp>

#include "cli/suggest.h"

namespace pregate::cli {
namespace {

int usage_error(const CLI::App& app, const std::string& message) {
  const std::string command = app.get_parent() == nullptr ? "" : " " + command_words(app, " ");
  fmt::print(stderr, "pregate: {}\nSee pregate{} --help\n", message, command);
  return kExitUsage;
}

/// Of those that are not part of another.
std::vector<std::string> names_of(const CLI::App& app, const std::vector<Command>& commands) {
  std::vector<std::string> names;
  for (const Command& command : commands) {
    if (command.app->get_parent() == &app) names.push_back(command.app->get_name());
  }
  return names;
}

std::vector<std::string> flags_of(CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    if (option->nonpositional()) flags.push_back(flag_of(*option));
  }
  return flags;
}

const Command* find_command(const std::vector<Command>& commands, const CLI::App* app) {
  const auto found = std::find_if(commands.begin(), commands.end(),
                                  [app](const Command& each) { return each.app == app; });
  return found == commands.end() ? nullptr : &*found;
}

int unexpected_argument(CLI::App& app, CLI::App& command) {
  const std::vector<std::string> rest = app.remaining(true);
  // "--prot=80" is one argument; the flag ends at the sign.
  const std::string flag = rest.empty() ? "" : rest.front().substr(0, rest.front().find('='));
  const std::string hint = flag.starts_with('-') ? did_you_mean(flag, flags_of(command)) : "";
  return usage_error(command,
                     fmt::format("{} {}: not expected{}", command_words(command, " "), flag, hint));
}

Status check_needed(const Command& command) {
  for (const CLI::Option* option : command.needed) {
    if (option->count() > 0) continue;
    return fail(ErrorCode::kInvalidArgument, "{} is needed (as a flag, as {}, or in --config FILE)",
                flag_of(*option), environment_name(*option));
  }
  return {};
}

int run(CLI::App& app, const Command& command, const Environment& environment) {
  Status ready = apply_environment_and_config(app, *command.app, environment);
  if (ready) ready = check_needed(command);
  if (!ready) {
    return usage_error(*command.app, fmt::format("{}: {}", command_words(*command.app, " "),
                                                 ready.error().message));
  }
  const Status done = command.run();
  if (done) return kExitOk;
  fmt::print(stderr, "pregate {}: {}\n", command_words(*command.app, " "), done.error().message);
  return kExitFailed;
}

}  // namespace

Command make_command(CLI::App& app, const std::string& name, const std::string& description,
                     const std::string& footer) {
  Command command{.app = app.add_subcommand(name, description)};
  command.app->footer(footer);
  return command;
}

int run_command(CLI::App& app, const std::vector<Command>& commands,
                const std::vector<std::string>& arguments, const Environment& environment) {
  if (arguments.empty()) {
    fmt::print(stderr, "{}", app.help());
    return kExitUsage;
  }
  const std::vector<std::string> names = names_of(app, commands);
  const std::string& first = arguments.front();
  if (!first.starts_with('-') && std::find(names.begin(), names.end(), first) == names.end()) {
    return usage_error(app,
                       fmt::format("{}: no such command{}", first, did_you_mean(first, names)));
  }
  const auto chosen = [&]() -> CLI::App& {
    CLI::App* innermost = &app;
    while (!innermost->get_subcommands().empty()) innermost = innermost->get_subcommands().front();
    return *innermost;
  };
  try {
    // CLI11 takes arguments from the end.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());  // Of the command named, if one is.
    return kExitOk;
  } catch (const CLI::ExtrasError&) {
    return unexpected_argument(app, chosen());
  } catch (const CLI::ParseError& error) {
    return usage_error(chosen(), error.what());
  }
  const Command* command = find_command(commands, &chosen());
  return command == nullptr ? usage_error(app, "a command is needed")
                            : run(app, *command, environment);
}

}  // namespace pregate::cli
