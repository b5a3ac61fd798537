#include "cli/worker.h"

#include <memory>

namespace pregate::cli {
namespace {

constexpr const char* kExamples =
    "Example, on one line:\n"
    "  mpirun -n 1 pregate coordinator --model models/olmoe\n"
    "       : -n 2 pregate worker --model models/olmoe --threads 4\n"
    "--model and --weights must be the same for coordinator and workers.\n\n";

}  // namespace

Command add_worker(CLI::App& app, std::function<Status(const WorkerOptions&)> run) {
  auto options = std::make_shared<WorkerOptions>();
  Command command = make_command(app, "worker",
                                 "Hold a share of the experts for the coordinator of the same "
                                 "mpirun",
                                 std::string(kExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_model_flags(flags, options->model, command);
  add_cluster_flags(flags, options->cluster);
  flags.text("--host", options->host, "Address on which /metrics is served");
  add_worker_metrics_flags(flags, options->metrics);
  flags.duration("--drain-timeout", options->drain_timeout,
                 "On SIGTERM: how long the coordinator may still send token batches");
  add_general_flags(flags, options->general);
  command.run = [options, run = std::move(run)]() -> Status {
    PREGATE_TRY(check(options->cluster));
    return run(*options);
  };
  return command;
}

}  // namespace pregate::cli
