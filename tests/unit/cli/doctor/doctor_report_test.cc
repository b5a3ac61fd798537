#include <algorithm>
#include <future>

#include <gtest/gtest.h>

#include "cli/doctor/gather.h"
#include "cli/doctor/report.h"
#include "transport/inproc/hub.h"

namespace pregate::cli::doctor {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

Report healthy(uint32_t rank) {
  Report report;
  report.host = "host-" + std::to_string(rank);
  report.rank = rank;
  report.role = rank == 0 ? "coordinator" : "worker";
  report.version = "0.1.0";
  report.protocol = 3;
  report.mpi = "4.1.4";
  report.ucx = "1.13.1";
  report.model = "models/olmoe";
  report.fingerprint = "0123456789abcdef";
  report.kernels = "cpu/avx2";
  report.cores = 4;
  report.memory_available = 16 * kGiB;
  report.memory_needed = 5 * kGiB;
  report.addresses = {"10.0.0." + std::to_string(rank)};
  report.checks = {{"model", Outcome::kOk, "fine", ""}};
  return report;
}

std::vector<Report> healthy_hosts() { return {healthy(0), healthy(1), healthy(2)}; }

TEST(DoctorReport, SurvivesTheJourney) {
  Report report = healthy(1);
  report.checks.push_back({"clock", Outcome::kWarning, "\"quoted\" \n", "do"});
  report.checks.push_back({"model", Outcome::kFailed, "gone", "copy it"});
  const auto back = from_json(to_json(report));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_json(*back), to_json(report));
  EXPECT_EQ(back->checks[2].outcome, Outcome::kFailed);
}

TEST(DoctorReport, OfAnotherVersionIsAnError) {
  const std::string good = to_json(healthy(0));
  std::string other = good;
  other.replace(other.find("\"ok\""), 4, "\"no\"");
  for (const std::string& text : {std::string(), std::string("{}"), std::string("[1]"), other,
                                  good.substr(0, good.size() / 2)}) {
    EXPECT_FALSE(from_json(text)) << text;
  }
}

TEST(DoctorCompare, HealthyHostsDoNotDiffer) { EXPECT_TRUE(compare(healthy_hosts()).empty()); }

TEST(DoctorCompare, WhatDiffersIsNamedWithItsHosts) {
  struct Case {
    void (*change)(Report&);
    const char* name;
    Outcome outcome;
    const char* said;
  };
  const Case cases[] = {
      {[](Report& r) { r.version = "0.2.0"; }, "program", Outcome::kWarning, "0.2.0 on host-1"},
      {[](Report& r) { r.protocol = 4; }, "protocol", Outcome::kFailed, "4 on host-1"},
      {[](Report& r) { r.fingerprint = "f"; }, "model", Outcome::kFailed, "f on host-1"},
      {[](Report& r) { r.mpi = "5.0.0"; }, "MPI", Outcome::kFailed, "4.1.4 on host-0, host-2"},
      {[](Report& r) { r.ucx = "1.14.0"; }, "UCX", Outcome::kWarning, "1.14.0 on host-1"},
      {[](Report& r) { r.clock_offset = 0.25; }, "clock", Outcome::kWarning, "0.25 s ahead"},
      {[](Report& r) { r.clock_offset = -3; }, "clock", Outcome::kWarning, "3.00 s behind"},
      {[](Report& r) { r.host = "host-2"; }, "host name", Outcome::kWarning, "ranks 1 and 2"},
  };
  for (const Case& each : cases) {
    auto reports = healthy_hosts();
    each.change(reports[1]);
    const Checks checks = compare(reports);
    ASSERT_EQ(checks.size(), 1u) << each.said;
    EXPECT_EQ(checks[0].name, each.name);
    EXPECT_EQ(checks[0].outcome, each.outcome);
    EXPECT_NE(checks[0].found.find(each.said), std::string::npos) << checks[0].found;
    EXPECT_FALSE(checks[0].advice.empty());
  }
}

TEST(DoctorCompare, AClockThatMayBeRightIsLeftAlone) {
  auto reports = healthy_hosts();
  reports[1].clock_offset = 0.15;
  reports[1].clock_error = 0.1;
  EXPECT_TRUE(compare(reports).empty());
}

TEST(DoctorCompare, AHostWithoutTheModelDoesNotDifferByIt) {
  auto reports = healthy_hosts();
  reports[1].fingerprint.clear();
  EXPECT_TRUE(compare(reports).empty());
}

TEST(DoctorCompare, RanksOfOneHostShareItsMemory) {
  auto reports = healthy_hosts();
  for (Report& report : reports) {
    report.host = "host";
    report.addresses.clear();
  }
  const Checks checks = compare(reports);
  ASSERT_EQ(checks.size(), 1u);
  EXPECT_EQ(checks[0].outcome, Outcome::kFailed);
  EXPECT_NE(checks[0].found.find("the 3 ranks on host need 15.0 GiB"), std::string::npos)
      << checks[0].found;
}

TEST(DoctorCompare, RanksThatNameTheSameDeviceMayShareItsMemory) {
  auto reports = healthy_hosts();
  for (Report& report : reports) {
    report.host = "host";
    report.addresses.clear();
    report.memory_needed = 0;
    report.device = report.rank == 2 ? "cuda:1" : "cuda:0";
    report.device_available = 8 * kGiB;
    report.device_needed = 5 * kGiB;
  }
  const Checks checks = compare(reports);
  ASSERT_EQ(checks.size(), 1u);
  EXPECT_EQ(checks[0].outcome, Outcome::kWarning);
  EXPECT_NE(checks[0].found.find("the 2 ranks on host need 10.0 GiB of cuda:0's memory"),
            std::string::npos)
      << checks[0].found;
  EXPECT_NE(format_hosts(reports, {}).find("5.0 GiB of 8.0 GiB of cuda:1"), std::string::npos);
}

TEST(DoctorPages, NameTheHostAndWhatToDo) {
  auto reports = healthy_hosts();
  reports[1].checks.push_back({"secret", Outcome::kFailed, "everyone can read it", "chmod 600"});
  const std::string page = format_hosts(reports, {{"clock", Outcome::kWarning, "off", "sync"}});
  for (const char* part : {"host-0", "host-2", "host-1, rank 1:", "FAILED   secret", "-> chmod 600",
                           "between hosts:", "1 FAILED, 1 warnings"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part << " is not in:\n" << page;
  }
  EXPECT_EQ(page.find("host-0, rank 0:"), std::string::npos) << page;
  EXPECT_NE(format_host(reports[1]).find("FAILED"), std::string::npos);
  EXPECT_FALSE(all_passed(reports, {}));
  EXPECT_TRUE(all_passed(healthy_hosts(), {}));
  EXPECT_FALSE(all_passed({}, {{"model", Outcome::kFailed, "", ""}}));
  EXPECT_TRUE(format_json(reports, {}).starts_with("{\"ok\":false"));
}

TEST(DoctorGather, BringsAllReportsAndTheirClocks) {
  transport::InprocHub hub;
  std::vector<std::unique_ptr<transport::Transport>> ends;
  for (uint32_t rank = 0; rank < 3; ++rank) ends.push_back(hub.attach(transport::PeerId(rank)));
  std::vector<std::future<Status>> others;
  for (uint32_t rank = 1; rank < 3; ++rank) {
    others.push_back(std::async(std::launch::async, [&ends, rank] {
      return send_report(*ends[rank], healthy(rank), std::chrono::seconds(60));
    }));
  }
  const auto reports = gather_reports(*ends[0], healthy(0), std::chrono::seconds(60));
  for (auto& other : others) EXPECT_TRUE(other.get());
  ASSERT_EQ(reports.size(), 3u);
  for (uint32_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(reports[rank].rank, rank);
    EXPECT_EQ(reports[rank].host, healthy(rank).host);
    EXPECT_LE(std::abs(reports[rank].clock_offset) - reports[rank].clock_error, 0.05);
  }
  for (auto& end : ends) end->stop({});
}

TEST(DoctorGather, ARankThatDoesNotAnswerFailed) {
  transport::InprocHub hub;
  const auto first = hub.attach(transport::PeerId(0));
  const auto mute = hub.attach(transport::PeerId(1));
  const auto reports = gather_reports(*first, healthy(0), std::chrono::milliseconds(50));
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(worst(reports[1].checks), Outcome::kFailed);
  EXPECT_EQ(reports[1].checks[0].found, "no answer");
  EXPECT_TRUE(compare(reports).empty());
  first->stop({});
  mute->stop({});
}

}  // namespace
}  // namespace pregate::cli::doctor
