#include "cli/doctor/doctor.h"

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/log.h"
#include "cli/doctor/gather.h"
#include "cli/doctor/look.h"
#include "transport/mpi/mpi.h"

namespace pregate::cli {
namespace {

using doctor::Report;
using doctor::Role;
using doctor::Settings;

constexpr const char* kDoctorExamples =
    "Examples:\n"
    "  pregate doctor --model models/olmoe                one process\n"
    "  pregate doctor --model models/olmoe -n 4 --role worker\n"
    "  mpirun -n 5 --hostfile hosts pregate doctor --model models/olmoe\n"
    "Takes the flags of serve and coordinator, and checks what they would use. Under mpirun every\n"
    "rank looks at its host, and rank 0 compares them. Status 0: nothing FAILED.\n\n";

/// How long after its own checks rank 0 waits for those of the others.
constexpr auto kGatherTimeout = std::chrono::seconds(60);

struct DoctorOptions : Settings {
  bool alone = false;
  bool json = false;
};

Status status_of(const std::vector<Report>& reports, const doctor::Checks& between) {
  if (doctor::all_passed(reports, between)) return {};
  return fail(ErrorCode::kUnavailable, "not fit to serve: see what FAILED");
}

Status examine_this_host(const DoctorOptions& options) {
  const std::vector<Report> reports = {doctor::look(options)};
  fmt::print(
      "{}", options.json ? doctor::format_json(reports, {}) : doctor::format_host(reports.front()));
  return status_of(reports, {});
}

Status print_all(const std::vector<Report>& reports, bool json) {
  const doctor::Checks between = doctor::compare(reports);
  fmt::print("{}",
             json ? doctor::format_json(reports, between) : doctor::format_hosts(reports, between));
  return status_of(reports, between);
}

Status examine_rank(DoctorOptions options, transport::Transport& transport) {
  options.in_mpi = true;
  options.rank = transport.self().value;
  options.role = options.rank == 0 ? Role::kCoordinator : Role::kWorker;
  options.num_workers = transport.launched_peers().size();
  Report own = doctor::look(options);
  if (options.rank > 0) return doctor::send_report(transport, own, 2 * kGatherTimeout);
  return print_all(doctor::gather_reports(transport, std::move(own), kGatherTimeout), options.json);
}

Status examine_all_hosts(const DoctorOptions& options) {
  PREGATE_ASSIGN(const auto transport, transport::make_mpi_transport({}));
  const Status status = examine_rank(options, *transport);
  transport->stop({});
  if (!transport->needs_hard_exit()) return status;
  // A rank that did not answer would hold up the usual way out.
  std::fflush(nullptr);
  std::_Exit(status ? kExitOk : kExitFailed);
}

}  // namespace

Command add_doctor(CLI::App& app) {
  auto options = std::make_shared<DoctorOptions>();
  Command command =
      make_command(app, "doctor", "Check whether this host, or all hosts of an mpirun, can serve",
                   std::string(kDoctorExamples) + kSourcesFooter);
  Flags flags(*command.app);
  flags.group("Checks");
  flags.count("-n,--workers", options->num_workers, {.max = 100'000},
              "Workers that share the experts; 0: one process does everything. Under mpirun: the "
              "ranks but the first");
  flags.choice<Role>(
      "--role", options->role,
      {{"all", Role::kAll}, {"coordinator", Role::kCoordinator}, {"worker", Role::kWorker}},
      "What will run on this host. Under mpirun: the coordinator as rank 0, a "
      "worker as any other");
  flags.text("--iface", options->interface,
             "Network interface that processes will use; default: any");
  flags.toggle("--alone", options->alone,
               "Check this host only, also where mpirun or srun started several processes");
  flags.toggle("--json", options->json, "Print the findings for programs");
  add_coordinator_flags(flags, *options, command);
  add_listen_flags(flags, options->listen);
  add_expert_memory_flags(flags, options->memory);
  add_worker_metrics_flags(flags, options->metrics);
  command.run = [options]() -> Status {
    PREGATE_TRY(check(static_cast<const CoordinatorOptions&>(*options)));
    PREGATE_TRY(init_log(options->general.log_level, "doctor"));
    const bool together = transport::launched_by_mpi() && !options->alone;
    return together ? examine_all_hosts(*options) : examine_this_host(*options);
  };
  return command;
}

}  // namespace pregate::cli
