#include "cli/app.h"

#include <CLI/CLI.hpp>

#include "cli/activations.h"
#include "cli/admin.h"
#include "cli/command.h"
#include "cli/doctor/doctor.h"
#include "cli/eval.h"
#include "cli/inspect.h"
#include "cli/lookahead/bench_lookahead.h"
#include "cli/make_model.h"
#include "cli/placement.h"
#include "cli/run_bench.h"
#include "cli/run_serve.h"
#include "cli/run_worker.h"
#include "cli/trace.h"
#include "cli/version.h"

namespace pregate::cli {

int run_app(const std::vector<std::string>& arguments, const Environment& environment) {
  CLI::App app("Serves Mixture-of-Experts language models on one machine or over a cluster",
               "pregate");
  app.footer("`pregate COMMAND --help` explains a command.");
  app.get_formatter()->column_width(40);
  const Command bench = add_bench(app, run_bench);
  const std::vector<Command> commands = {
      add_serve(app, run_serve),
      add_coordinator(app, run_coordinator),
      add_worker(app, run_worker),
      add_admin(app),
      add_doctor(app),
      add_inspect(app),
      bench,
      add_bench_lookahead(*bench.app),
      add_eval(app),
      add_activations(app),
      add_trace(app),
      add_trace_summary(app),
      add_placement(app),
      add_make_model(app),
      add_version(app),
  };
  return run_command(app, commands, arguments, environment);
}

}  // namespace pregate::cli
