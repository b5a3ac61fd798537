#include "cli/app.h"

#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/make_model.h"
#include "cli/version.h"

namespace pregate::cli {

int run_app(const std::vector<std::string>& arguments, const Environment& environment) {
  CLI::App app("Serves Mixture-of-Experts language models on one machine or over a cluster",
               "pregate");
  app.footer("`pregate COMMAND --help` explains a command.");
  app.get_formatter()->column_width(40);
  const std::vector<Command> commands = {
      add_inspect(app),
      add_make_model(app),
      add_version(app),
  };
  return run_command(app, commands, arguments, environment);
}

}  // namespace pregate::cli
