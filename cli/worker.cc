#include "cli/worker.h"

#include <charconv>
#include <memory>

#include "protocol/codec.h"

namespace pregate::cli {
namespace {

constexpr const char* kWorkerExamples =
    "Examples:\n"
    "  pregate worker --model models/olmoe --join 10.0.0.1:7000 --secret-file secret\n"
    "  pregate worker --model models/olmoe --join 10.0.0.1:7000 --secret-file secret\n"
    "                 --name big --memory 200G --threads 32\n"
    "or, on one line:\n"
    "  mpirun -n 1 pregate coordinator --model models/olmoe\n"
    "       : -n 2 pregate worker --model models/olmoe --threads 4\n"
    "--model and --weights must be the same for coordinator and workers.\n\n";

/// "HOST:PORT" by its looks; the host is looked up when it is dialled.
Status check_address(const std::string& address) {
  const size_t colon = address.rfind(':');
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  const std::string host = address.substr(0, std::min(colon, address.size()));
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  const bool is_port = error == std::errc() && end == port.data() + port.size() && number > 0;
  const bool is_host = !host.empty() && (host.find(':') == std::string::npos ||
                                         (host.front() == '[' && host.back() == ']'));
  if (is_port && is_host) return {};
  return fail(ErrorCode::kInvalidArgument,
              "--join {}: expected HOST:PORT of the coordinator's --listen; IPv6 addresses are in "
              "brackets",
              address);
}

void add_join_flags(Flags& flags, WorkerOptions& options) {
  flags.group("Cluster");
  flags.text("--join", options.join.address,
             "HOST:PORT of the coordinator's --listen; without it the coordinator is rank 0 of "
             "the same mpirun");
  flags.text("--name", options.join.name,
             "With --join: what this worker is called, once in the cluster and the same after a "
             "restart; default: the machine's name");
  flags.path("--secret-file", options.join.secret_file,
             "With --join: the file with the cluster's secret, not readable by everyone");
  flags.bytes("--memory", options.memory_bytes,
              "For experts; 0: what is free, less a reserve. Give each its share where several "
              "workers run on one machine. With --expert-memory: how much of the experts it may be "
              "told to hold on its disk; 0: all");
}

}  // namespace

Status check(const JoinOptions& options) {
  if (options.address.empty()) {
    if (options.secret_file.empty() && options.name.empty()) return {};
    return fail(ErrorCode::kInvalidArgument,
                "{} is for workers that join over the network: give --join HOST:PORT too, or leave "
                "it out",
                options.name.empty() ? "--secret-file" : "--name");
  }
  PREGATE_TRY(check_address(options.address));
  if (!options.name.empty() && !protocol::is_worker_name(options.name)) {
    return fail(ErrorCode::kInvalidArgument,
                "--name {}: expected 1 to {} letters, digits, '.', '_' and '-'", options.name,
                protocol::kMaxNameBytes);
  }
  if (!options.secret_file.empty()) return {};
  return fail(ErrorCode::kInvalidArgument,
              "--join {}: --secret-file is needed: the same file that the coordinator has",
              options.address);
}

Command add_worker(CLI::App& app, std::function<Status(const WorkerOptions&)> run) {
  auto options = std::make_shared<WorkerOptions>();
  Command command = make_command(app, "worker",
                                 "Hold a share of the experts for a coordinator that it joins "
                                 "(--join) or that is rank 0 of the same mpirun",
                                 std::string(kWorkerExamples) + kSourcesFooter);
  Flags flags(*command.app);
  add_model_flags(flags, options->model, command);
  add_join_flags(flags, *options);
  add_expert_memory_flags(flags, options->memory);
  add_cluster_flags(flags, options->cluster);
  flags.text("--host", options->host, "Address on which /metrics is served");
  add_worker_metrics_flags(flags, options->metrics);
  flags.duration("--drain-timeout", options->drain_timeout,
                 "On SIGTERM: how long the cluster may take to go on without this worker");
  add_general_flags(flags, options->general);
  command.run = [options, run = std::move(run)]() -> Status {
    PREGATE_TRY(check(options->join));
    PREGATE_TRY(check(options->cluster));
    return run(*options);
  };
  return command;
}

}  // namespace pregate::cli
