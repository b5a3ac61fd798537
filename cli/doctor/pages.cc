// Reports for people.
#include <algorithm>
#include <cmath>

#include "cli/doctor/report.h"
#include "cli/quantity.h"
#include "cli/table.h"

namespace pregate::cli::doctor {
namespace {

std::string format_check(const Check& check) {
  std::string text =
      fmt::format("  {:<7}  {:<12}  {}\n", to_string(check.outcome), check.name, check.found);
  if (!check.advice.empty()) text += fmt::format("{:25}-> {}\n", "", check.advice);
  return text;
}

std::string format_summary(const std::vector<Report>& reports, const Checks& between) {
  size_t num_failed = 0, num_warnings = 0;
  const auto count = [&](const Checks& checks) {
    num_failed +=
        static_cast<size_t>(std::ranges::count(checks, Outcome::kFailed, &Check::outcome));
    num_warnings +=
        static_cast<size_t>(std::ranges::count(checks, Outcome::kWarning, &Check::outcome));
  };
  for (const Report& report : reports) count(report.checks);
  count(between);
  if (num_failed > 0) return fmt::format("{} FAILED, {} warnings\n", num_failed, num_warnings);
  return fmt::format("nothing FAILED, {} warnings\n", num_warnings);
}

std::string memory_of(const Report& report) {
  const auto part = [](uint64_t needed, uint64_t available) {
    return fmt::format("{} of {}", describe_bytes(needed), describe_bytes(available));
  };
  std::string text = part(report.memory_needed, report.memory_available);
  if (!report.device.empty()) {
    text += fmt::format(", {} of {}", part(report.device_needed, report.device_available),
                        report.device);
  }
  return text;
}

std::vector<std::string> row_of(const Report& report) {
  return {report.host,
          std::to_string(report.rank),
          report.role,
          report.version,
          report.kernels,
          std::to_string(report.cores),
          memory_of(report),
          report.fingerprint.empty() ? "-" : report.fingerprint,
          fmt::format("{:+.0f} ms", std::round(report.clock_offset * 1e3) + 0.0),
          to_string(worst(report.checks))};
}

/// What is not as it should be on a host, once for all of its ranks that say the same.
struct Problems {
  std::string host, ranks, text;
};

std::vector<Problems> problems_of(const std::vector<Report>& reports) {
  std::vector<Problems> all;
  for (const Report& report : reports) {
    std::string text;
    for (const Check& check : report.checks) {
      if (check.outcome != Outcome::kOk) text += format_check(check);
    }
    const auto same = std::ranges::find_if(
        all, [&](const Problems& each) { return each.host == report.host && each.text == text; });
    if (same != all.end()) {
      same->ranks += fmt::format(", {}", report.rank);
    } else if (!text.empty()) {
      all.push_back({report.host, std::to_string(report.rank), std::move(text)});
    }
  }
  return all;
}

}  // namespace

std::string format_host(const Report& report) {
  std::string page = fmt::format("{}:\n", report.host);
  for (const Check& check : report.checks) page += format_check(check);
  return page + format_summary({report}, {});
}

std::string format_hosts(const std::vector<Report>& reports, const Checks& between) {
  std::vector<std::vector<std::string>> rows = {{"host", "rank", "role", "pregate", "kernels",
                                                 "cores", "memory needed", "model", "clock",
                                                 "checks"}};
  for (const Report& report : reports) rows.push_back(row_of(report));
  std::string page = format_table(rows);
  for (const Problems& each : problems_of(reports)) {
    page += fmt::format("\n{}, rank {}:\n{}", each.host, each.ranks, each.text);
  }
  if (!between.empty()) page += "\nbetween hosts:\n";
  for (const Check& check : between) page += format_check(check);
  return page + "\n" + format_summary(reports, between);
}

}  // namespace pregate::cli::doctor
