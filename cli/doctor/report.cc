#include "cli/doctor/report.h"

#include <algorithm>

#include <boost/describe.hpp>
#include <boost/json.hpp>

#include "cli/quantity.h"

namespace pregate::cli::doctor {
namespace {

namespace json = boost::json;

}  // namespace

// Where Boost looks for them.
BOOST_DESCRIBE_STRUCT(Check, (), (name, outcome, found, advice))
BOOST_DESCRIBE_STRUCT(Report, (),
                      (host, rank, role, version, protocol, mpi, ucx, model, fingerprint, kernels,
                       cores, memory_available, memory_needed, device, device_available,
                       device_needed, addresses, clock_offset, clock_error, checks))

void tag_invoke(json::value_from_tag, json::value& value, Outcome outcome) {
  value = to_string(outcome);
}

json::result<Outcome> tag_invoke(json::try_value_to_tag<Outcome>, const json::value& value) {
  for (const Outcome outcome : {Outcome::kOk, Outcome::kWarning, Outcome::kFailed}) {
    if (value == json::value(to_string(outcome))) return outcome;
  }
  return make_error_code(json::error::not_string);
}

std::string to_json(const Report& report) { return json::serialize(json::value_from(report)); }

Result<Report> from_json(const std::string& text) {
  json::error_code error;
  const json::value value = json::parse(text, error);
  if (error) return fail(ErrorCode::kDataLoss, "report: {}", error.message());
  auto report = json::try_value_to<Report>(value);
  if (report) return std::move(*report);
  return fail(ErrorCode::kDataLoss, "report of another version of pregate: {}",
              report.error().message());
}

bool all_passed(const std::vector<Report>& reports, const Checks& between) {
  return worst(between) != Outcome::kFailed &&
         std::ranges::none_of(reports, [](const Report& report) {
           return worst(report.checks) == Outcome::kFailed;
         });
}

std::string format_json(const std::vector<Report>& reports, const Checks& between) {
  const json::object page{{"ok", all_passed(reports, between)},
                          {"hosts", json::value_from(reports)},
                          {"between_hosts", json::value_from(between)}};
  return json::serialize(page) + "\n";
}

}  // namespace pregate::cli::doctor
