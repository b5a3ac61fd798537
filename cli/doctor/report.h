// What one process found out about its host, as it travels to rank 0 and is printed.
#pragma once

#include <string>
#include <vector>

#include "cli/doctor/checks.h"

namespace pregate::cli::doctor {

struct Report {
  std::string host;
  uint32_t rank = 0;
  std::string role;  ///< "coordinator", "worker" or "all"
  std::string version;
  uint32_t protocol = 0;
  std::string mpi, ucx;     ///< Versions at run time.
  std::string model;        ///< Its folder.
  std::string fingerprint;  ///< Empty: the checkpoint cannot be opened.
  std::string kernels;
  uint64_t cores = 0;
  uint64_t memory_available = 0;
  uint64_t memory_needed = 0;
  std::string device;  ///< The back end, if it has memory of its own: what it has and is to hold.
  uint64_t device_available = 0;
  uint64_t device_needed = 0;
  std::vector<std::string> addresses;  ///< Those others may reach it by.
  double clock_offset = 0;             ///< Seconds ahead of rank 0.
  double clock_error = 0;              ///< How far from that it may be.
  Checks checks;
};

std::string to_json(const Report& report);
/// kDataLoss for what another version wrote.
Result<Report> from_json(const std::string& text);

/// What is wrong with the hosts together although each is fine: versions, models and clocks that
/// differ, names that two have. One report of each rank, rank 0 first.
Checks compare(const std::vector<Report>& reports);

/// Pages for people: of one host, and of several with what is not as it should be.
std::string format_host(const Report& report);
std::string format_hosts(const std::vector<Report>& reports, const Checks& between);
/// The same for programs.
std::string format_json(const std::vector<Report>& reports, const Checks& between);

bool all_passed(const std::vector<Report>& reports, const Checks& between);

}  // namespace pregate::cli::doctor
