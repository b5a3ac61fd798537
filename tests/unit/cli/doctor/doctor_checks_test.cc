#include <limits>

#include <gtest/gtest.h>

#include "cli/doctor/checks.h"

namespace pregate::cli::doctor {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr double kNone = std::numeric_limits<double>::infinity();

/// What a check of some facts must come to.
template <typename Facts>
struct Case {
  Facts facts;
  Outcome outcome;
  const char* said;  ///< In what was found or in the advice.
};

template <typename Facts, typename Judge>
void expect(const std::vector<Case<Facts>>& cases, const Judge& judge) {
  for (const auto& [facts, outcome, said] : cases) {
    const Check check = judge(facts);
    const std::string text = check.found + " -> " + check.advice;
    EXPECT_EQ(check.outcome, outcome) << text;
    EXPECT_NE(text.find(said), std::string::npos) << text << "\nhas no: " << said;
    EXPECT_EQ(check.advice.empty(), outcome == Outcome::kOk) << text;
    EXPECT_FALSE(check.name.empty());
  }
}

Result<std::string> refused(const char* why) {
  return fail(ErrorCode::kInvalidArgument, "{}", why);
}
Status unavailable(const char* why) { return fail(ErrorCode::kUnavailable, "{}", why); }

TEST(DoctorChecks, Libraries) {
  expect<transport::LibraryVersion>(
      {{{"Open MPI", "4.1.4", "4.1.4"}, Outcome::kOk, "4.1.4"},
       {{"UCX", "1.13", "1.13.1"}, Outcome::kOk, "1.13.1"},
       {{"MPI", "", ""}, Outcome::kOk, "not in this build"},
       {{"UCX", "1.13", "1.1.3"}, Outcome::kWarning, "built with 1.13"},
       {{"UCX", "1.1", "1.13.1"}, Outcome::kWarning, "1.13.1"}},
      check_library);
}

TEST(DoctorChecks, KernelsThatCannotRunOrAreSlow) {
  const std::vector<std::string> all = {"cpu/avx512", "cpu/avx2", "cpu/generic", "reference"};
  const std::vector<std::string> old = {"cpu/generic", "reference"};
  expect<Kernels>({{{"cpu", all, "cpu/avx512"}, Outcome::kOk, "cpu/avx512"},
                   {{"cpu/avx2", all, "cpu/avx2"}, Outcome::kOk, "cpu/avx2"},
                   {{"cpu", all, "cpu/avx2"}, Outcome::kWarning, "cpu/avx512 fails"},
                   {{"cpu", old, "cpu/generic"}, Outcome::kWarning, "neither AVX2"},
                   {{"gpu", all, refused("gpu: no such back end")}, Outcome::kFailed, "--backend"}},
                  check_kernels);
}

TEST(DoctorChecks, CoresAndQuota) {
  expect<Cores>({{{8, 8, kNone, 0}, Outcome::kOk, "8 of 8"},
                 {{8, 4, kNone, 4}, Outcome::kOk, "4 of 8"},
                 {{8, 8, 3.5, 0}, Outcome::kOk, "CPU quota 3.50"},
                 {{8, 8, 0.5, 0}, Outcome::kWarning, "raise the quota"},
                 {{8, 8, 3.5, 4}, Outcome::kWarning, "--threads 3"},
                 {{8, 4, kNone, 8}, Outcome::kWarning, "--threads 4"},
                 {{8, 1, kNone, 0}, Outcome::kWarning, "--bind-to none"},
                 {{1, 1, kNone, 1}, Outcome::kOk, "1 of 1"}},
                check_cores);
}

TEST(DoctorChecks, MemoryOfWhatRuns) {
  const auto of = [](uint64_t available, uint64_t backbone, uint64_t cache, uint64_t experts,
                     bool on_disk = false) {
    return Memory{available * kMiB, backbone * kMiB, cache * kMiB, experts * kMiB, on_disk};
  };
  expect<Memory>({{of(8192, 1024, 1024, 4096), Outcome::kOk, "6.0 GiB needed"},
                  {of(8192, 0, 0, 8000), Outcome::kFailed, "more workers or memory"},
                  {of(8192, 1024, 1024, 8000, true), Outcome::kWarning, "read from disk"},
                  {of(8192, 1024, 8192, 0), Outcome::kFailed, "--kv-cache-bytes"},
                  {of(8192, 1024, 8192, 1, true), Outcome::kFailed, "--kv-cache-bytes"},
                  {of(0, 1, 1, 1), Outcome::kWarning, "--memory"}},
                 check_memory);
}

TEST(DoctorChecks, MemoryOfADeviceIsItsOwn) {
  const auto of = [](uint64_t available, uint64_t backbone, uint64_t experts,
                     bool on_disk = false) {
    return Memory{available * kMiB, backbone * kMiB, 0, experts * kMiB, on_disk, "cuda:1"};
  };
  expect<Memory>({{of(8192, 1024, 7168), Outcome::kOk, "8.0 GiB of cuda:1's memory available"},
                  {of(8192, 1024, 7169), Outcome::kFailed, "more workers or memory"},
                  {of(8192, 1024, 8000, true), Outcome::kWarning, "read from disk"},
                  {of(1024, 2048, 1, true), Outcome::kFailed, "a device with more free memory"},
                  {of(0, 0, 1), Outcome::kFailed, "0 B of cuda:1's memory"}},
                 check_memory);
  EXPECT_EQ(check_memory(of(2, 1, 1)).name, "GPU memory");
}

TEST(DoctorChecks, Ports) {
  expect<Port>({{{"--port", "127.0.0.1:8000", {}}, Outcome::kOk, "is free"},
                {{"--listen", "h:1", unavailable("h:1: Address already in use")},
                 Outcome::kFailed,
                 "another --listen"}},
               check_port);
}

TEST(DoctorChecks, SharedMemory) {
  expect<SharedMemory>({{{{}, 64 * kMiB, true}, Outcome::kOk, "64.0 MiB"},
                        {{{}, kMiB, true}, Outcome::kWarning, "--shm-size"},
                        {{{}, kMiB, false}, Outcome::kOk, "1.0 MiB"},
                        {{unavailable("denied"), 0, true}, Outcome::kFailed, "tmpfs"},
                        {{unavailable("denied"), 0, false}, Outcome::kWarning, "denied"}},
                       check_shared_memory);
}

TEST(DoctorChecks, OpenFiles) {
  expect<uint64_t>({{1 << 20, Outcome::kOk, "1048576"},
                    {1024, Outcome::kWarning, "ulimit"},
                    {64, Outcome::kFailed, "limit 64"},
                    {0, Outcome::kFailed, "limit 0"}},
                   check_open_files);
}

TEST(DoctorChecks, Interfaces) {
  const Interface lo{"lo", "127.0.0.1", true}, eth{"eth0", "10.0.0.1", false};
  using Asked = std::pair<std::vector<Interface>, std::string>;
  expect<Asked>({{{{lo, eth}, ""}, Outcome::kOk, "eth0 10.0.0.1"},
                 {{{lo, eth}, "eth0"}, Outcome::kOk, "lo 127.0.0.1"},
                 {{{lo, eth}, "ib0"}, Outcome::kFailed, "no ib0"},
                 {{{lo}, ""}, Outcome::kWarning, "no other host"},
                 {{{}, ""}, Outcome::kFailed, "no interface"},
                 {{{}, "eth0"}, Outcome::kFailed, "there are: none"}},
                [](const Asked& asked) { return check_interfaces(asked.first, asked.second); });
}

TEST(DoctorChecks, OwnNameThatLeadsToTheLoopbackOnly) {
  expect<OwnName>({{{"h", {"10.0.0.1"}}, Outcome::kOk, "h is 10.0.0.1"},
                   {{"h", {"127.0.1.1", "10.0.0.1"}}, Outcome::kOk, "127.0.1.1"},
                   {{"h", {"127.0.1.1"}}, Outcome::kWarning, "others cannot reach"},
                   {{"h", {"::1"}}, Outcome::kWarning, "/etc/hosts"},
                   {{"h", {}}, Outcome::kWarning, "nobody knows"}},
                  check_own_name);
}

TEST(DoctorChecks, Clock) {
  expect<std::optional<bool>>({{true, Outcome::kOk, "synchronised"},
                               {false, Outcome::kWarning, "chrony"},
                               {std::nullopt, Outcome::kOk, "cannot say"}},
                              check_clock);
}

TEST(DoctorChecks, TheWorstCounts) {
  EXPECT_EQ(worst({}), Outcome::kOk);
  EXPECT_EQ(worst({{"a", Outcome::kWarning, "", ""}, {"b", Outcome::kOk, "", ""}}),
            Outcome::kWarning);
  EXPECT_EQ(worst({{"a", Outcome::kFailed, "", ""}, {"b", Outcome::kWarning, "", ""}}),
            Outcome::kFailed);
}

}  // namespace
}  // namespace pregate::cli::doctor
