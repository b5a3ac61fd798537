#include "cli/serve.h"

#include <memory>

namespace pregate::cli {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  pregate serve --model models/olmoe --weights q8 --port 8000\n"
    "  mpirun -n 3 pregate serve --model models/olmoe     one coordinator, two workers\n\n";

}  // namespace

Command add_serve(CLI::App& app, std::function<Status(const ServeOptions&)> run) {
  auto options = std::make_shared<ServeOptions>();
  Command command =
      make_command(app, "serve",
                   "Serve a model over HTTP. Under mpirun, rank 0 is the coordinator and the "
                   "other ranks are its workers",
                   std::string(kExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_coordinator_flags(flags, *options, command);
  add_worker_metrics_flags(flags, options->metrics);
  command.run = [options, run = std::move(run)]() -> Status {
    PREGATE_TRY(check(*options));
    return run(*options);
  };
  return command;
}

}  // namespace pregate::cli
