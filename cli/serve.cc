#include "cli/serve.h"

#include <memory>

namespace pregate::cli {
namespace {

constexpr const char* kServeExamples =
    "Examples:\n"
    "  pregate serve --model models/olmoe --weights q8 --port 8000\n"
    "  pregate serve --model models/olmoe --workers 2     a coordinator and two workers\n"
    "  mpirun -n 3 pregate serve --model models/olmoe     one coordinator, two workers\n\n";

}  // namespace

Command add_serve(CLI::App& app, std::function<Status(const ServeOptions&)> run) {
  auto options = std::make_shared<ServeOptions>();
  Command command =
      make_command(app, "serve",
                   "Serve a model over HTTP, alone or with workers on this machine. Under mpirun, "
                   "rank 0 is the coordinator and the other ranks are its workers",
                   std::string(kServeExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_coordinator_flags(flags, *options, command);
  add_expert_memory_flags(flags, options->memory);
  flags.group("Cluster");
  flags.count("--workers", options->num_workers, {.max = 256},
              "Worker processes to start on this machine, and to start again when one dies; 0: the "
              "experts are in this process. --threads is for each process; default: the cores, "
              "divided by the workers");
  add_worker_metrics_flags(flags, options->metrics);
  command.run = [options, run = std::move(run)]() -> Status {
    PREGATE_TRY(check(*options));
    return run(*options);
  };
  return command;
}

}  // namespace pregate::cli
