// Brings the reports of all ranks of a launch to rank 0, and compares their clocks on the way.
#pragma once

#include "cli/doctor/report.h"
#include "transport/transport.h"

namespace pregate::cli::doctor {

/// For rank 0: its own report and one of each other rank, those that did not answer in time as
/// failed ones. Starts the transport; the caller stops it.
std::vector<Report> gather_reports(transport::Transport& transport, Report own, Duration timeout);

/// For the others: until rank 0 has what it needs. kDeadlineExceeded if it never says so.
Status send_report(transport::Transport& transport, const Report& report, Duration timeout);

}  // namespace pregate::cli::doctor
