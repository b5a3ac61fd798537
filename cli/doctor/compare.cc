// How reports differ.
#include <cmath>
#include <functional>
#include <map>

#include "base/memory.h"
#include "cli/doctor/report.h"
#include "cli/quantity.h"

namespace pregate::cli::doctor {
namespace {

constexpr double kMaxClockOffset = 0.1;  // seconds

using Field = std::function<std::string(const Report&)>;

/// Nothing where all reports that have the field say the same.
void compare_field(const std::vector<Report>& reports, const std::string& name, Outcome if_not,
                   const std::string& advice, const Field& field, Checks& checks) {
  std::map<std::string, std::vector<std::string>> hosts_by_value;
  for (const Report& report : reports) {
    const std::string value = field(report);
    if (value.empty()) continue;
    auto& hosts = hosts_by_value[value];
    if (hosts.empty() || hosts.back() != report.host) hosts.push_back(report.host);
  }
  if (hosts_by_value.size() < 2) return;
  std::vector<std::string> found;
  for (const auto& [value, hosts] : hosts_by_value) {
    found.push_back(fmt::format("{} on {}", value, fmt::join(hosts, ", ")));
  }
  checks.push_back({name, if_not, fmt::format("{}", fmt::join(found, "; ")), advice});
}

/// One entry of each host, in the order of ranks.
std::vector<std::vector<const Report*>> by_host(const std::vector<Report>& reports) {
  std::vector<std::vector<const Report*>> hosts;
  std::map<std::string, size_t> index;
  for (const Report& report : reports) {
    const auto [found, is_new] = index.try_emplace(report.host, hosts.size());
    if (is_new) hosts.emplace_back();
    hosts[found->second].push_back(&report);
  }
  return hosts;
}

void compare_names(const std::vector<const Report*>& ranks, Checks& checks) {
  for (const Report* rank : ranks) {
    if (rank->addresses == ranks.front()->addresses) continue;
    checks.push_back(
        {"host name", Outcome::kWarning,
         fmt::format("ranks {} and {} both call their host {}, but have other addresses: {} and {}",
                     ranks.front()->rank, rank->rank, rank->host,
                     fmt::join(ranks.front()->addresses, ", "), fmt::join(rank->addresses, ", ")),
         "give each host a name of its own (hostnamectl set-hostname); workers that join over the "
         "network need a --name each"});
    return;
  }
}

/// Each rank has looked at its own need only.
void add_memory_of(const std::vector<const Report*>& ranks, Checks& checks) {
  uint64_t needed = 0, available = UINT64_MAX;
  for (const Report* rank : ranks) {
    needed += rank->memory_needed;
    available = std::min(available, rank->memory_available);
  }
  if (ranks.size() < 2 || available == 0 || needed <= less_reserve(available)) return;
  checks.push_back({"memory", Outcome::kFailed,
                    fmt::format("the {} ranks on {} need {}, {} of {} are usable", ranks.size(),
                                ranks.front()->host, describe_bytes(needed),
                                describe_bytes(less_reserve(available)), describe_bytes(available)),
                    "fewer ranks on this host, more hosts, or --weights q8 or q4"});
}

/// The same of a device that several ranks name alike; each may have another of its own by that
/// name.
void add_device_memory_of(const std::vector<const Report*>& ranks, Checks& checks) {
  std::map<std::string, std::vector<const Report*>> by_device;
  for (const Report* rank : ranks) {
    if (!rank->device.empty()) by_device[rank->device].push_back(rank);
  }
  for (const auto& [device, users] : by_device) {
    uint64_t needed = 0, available = UINT64_MAX;
    for (const Report* rank : users) {
      needed += rank->device_needed;
      available = std::min(available, rank->device_available);
    }
    if (users.size() < 2 || needed <= available) continue;
    checks.push_back(
        {"GPU memory", Outcome::kWarning,
         fmt::format("the {} ranks on {} need {} of {}'s memory, {} is available", users.size(),
                     ranks.front()->host, describe_bytes(needed), device,
                     describe_bytes(available)),
         "another --device or CUDA_VISIBLE_DEVICES for each, fewer ranks on this host, "
         "or --weights q8 or q4"});
  }
}

void compare_clock(const Report& report, Checks& checks) {
  if (std::abs(report.clock_offset) - report.clock_error <= kMaxClockOffset) return;
  checks.push_back(
      {"clock", Outcome::kWarning,
       fmt::format("that of {} is {:.2f} s {} rank 0's", report.host, std::abs(report.clock_offset),
                   report.clock_offset > 0 ? "ahead of" : "behind"),
       "synchronise the hosts' clocks, so that their logs can be compared"});
}

}  // namespace

Checks compare(const std::vector<Report>& reports) {
  Checks checks;
  const auto differ = [&](const char* name, Outcome if_not, const char* advice,
                          const Field& field) {
    compare_field(reports, name, if_not, advice, field, checks);
  };
  differ("protocol", Outcome::kFailed, "the same version of pregate on every host",
         [](const Report& r) { return r.protocol == 0 ? "" : std::to_string(r.protocol); });
  differ("program", Outcome::kWarning, "the same version of pregate on every host",
         [](const Report& r) { return r.version; });
  differ("model", Outcome::kFailed,
         "copy the same checkpoint to every host, or use a folder that all share",
         [](const Report& r) { return r.fingerprint; });
  differ("MPI", Outcome::kFailed, "the same version on every host",
         [](const Report& r) { return r.mpi; });
  differ("UCX", Outcome::kWarning, "the same version on every host",
         [](const Report& r) { return r.ucx; });
  for (const auto& ranks : by_host(reports)) {
    compare_names(ranks, checks);
    add_memory_of(ranks, checks);
    add_device_memory_of(ranks, checks);
    compare_clock(*ranks.front(), checks);
  }
  return checks;
}

}  // namespace pregate::cli::doctor
