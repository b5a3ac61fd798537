#include "cli/coordinator.h"

#include <memory>

namespace pregate::cli {
namespace {

constexpr const char* kCoordinatorExamples =
    "Examples:\n"
    "  pregate coordinator --model models/olmoe --listen 10.0.0.1:7000 --secret-file secret\n"
    "  pregate worker --model models/olmoe --join 10.0.0.1:7000 --secret-file secret\n"
    "or, on one line:\n"
    "  mpirun -n 1 pregate coordinator --model models/olmoe\n"
    "       : -n 2 pregate worker --model models/olmoe --threads 4\n\n";

}  // namespace

void add_coordinator_flags(Flags& flags, CoordinatorOptions& options, Command& command) {
  add_model_flags(flags, options.model, command);
  add_http_flags(flags, options.http);
  add_admin_flags(flags, options.admin);
  add_batching_flags(flags, options.batching);
  add_batch_policy_flags(flags, options.batching);
  add_dispatch_flags(flags, options.dispatch);
  add_balance_flags(flags, options.balance);
  add_lookahead_flags(flags, options.lookahead);
  add_cluster_flags(flags, options.cluster);
  add_general_flags(flags, options.general);
}

Status check(const CoordinatorOptions& options) {
  PREGATE_TRY(check(options.http));
  PREGATE_TRY(check(options.listen));
  PREGATE_TRY(check(options.lookahead));
  return check(options.cluster);
}

Command add_coordinator(CLI::App& app, std::function<Status(const CoordinatorOptions&)> run) {
  auto options = std::make_shared<CoordinatorOptions>();
  Command command = make_command(
      app, "coordinator",
      "Serve a model over HTTP with its experts on workers that join (--listen) or are "
      "the ranks of the same mpirun",
      std::string(kCoordinatorExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_coordinator_flags(flags, *options, command);
  add_listen_flags(flags, options->listen);
  command.run = [options, run = std::move(run)]() -> Status {
    PREGATE_TRY(check(*options));
    return run(*options);
  };
  return command;
}

}  // namespace pregate::cli
