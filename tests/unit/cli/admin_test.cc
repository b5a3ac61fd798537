// `pregate admin` against a server with fake hooks, and its HTTP client.
#include "cli/admin.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/app.h"
#include "cli/http_client.h"
#include "coordinator/api/api_server.h"
#include "tests/support/scratch_directory.h"

namespace pregate::cli {
namespace {

namespace json = boost::json;
using coordinator::AdminHooks;
using coordinator::ApiError;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Url, HostsAndPorts) {
  const auto local = parse_url("http://127.0.0.1:8000/");
  ASSERT_TRUE(local);
  EXPECT_EQ(local->host, "127.0.0.1");
  EXPECT_EQ(local->port, "8000");
  const auto plain = parse_url("http://coordinator");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->port, "80");
  const auto six = parse_url("http://[::1]:80");
  ASSERT_TRUE(six);
  EXPECT_EQ(six->host, "::1");
  EXPECT_EQ(six->port, "80");
  for (const char* wrong : {"", "127.0.0.1:8000", "http://", "http://a:b", "http://a/b",
                            "http://a:", "http://[::1", "ftp://a"}) {
    EXPECT_FALSE(parse_url(wrong)) << wrong;
  }
  EXPECT_EQ(parse_url("https://a").error().code, ErrorCode::kUnimplemented);
}

TEST(HttpClient, NobodyThereIsUnavailable) {
  const auto answer =
      http_exchange({.host = "127.0.0.1", .port = "1"}, {.path = "/"}, std::chrono::seconds(5));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(answer.error().message, HasSubstr("http://127.0.0.1:1: "));
}

class AdminTest : public testing::Test {
 protected:
  AdminTest()
      : server_({.http = {.address = "127.0.0.1", .port = 0},
                 .api = {.served_names = {"m"}, .api_keys = {"user"}, .admin = admin()}},
                {.readiness = [] { return coordinator::Readiness{}; },
                 .scrape = [] { return std::string(); },
                 .version = "1"},
                nullptr) {
    const auto port = server_.start();
    url_ = "http://127.0.0.1:" + std::to_string(port.value());
    std::ofstream(key_file_) << "# for operators\nadmin\n";
  }

  coordinator::AdminConfig admin() {
    const auto worker = [this](const std::string& name) -> AdminHooks::Answer {
      if (name != "worker-1") {
        return tl::unexpected(ApiError{404, "no worker is named \"" + name + "\""});
      }
      ++num_looks_;
      return json::object{
          {"name", name}, {"state", num_looks_ > 2 ? "dead" : "draining"}, {"experts", 16}};
    };
    const auto note = [this](const std::string& what) -> AdminHooks::Answer {
      calls_.push_back(what);
      return json::object{{"removed", what}, {"target_version", 7}, {"frozen", what == "freeze"}};
    };
    return {.keys = {"admin"},
            .hooks = {.workers = [this]() -> AdminHooks::Answer { return workers_; },
                      .worker = worker,
                      .drain = worker,
                      .remove = note,
                      .placement = [this]() -> AdminHooks::Answer { return placement_; },
                      .set_placement = note,
                      .balancer = [note] { return note("look"); },
                      .freeze_balancer = [note](bool on) { return note(on ? "freeze" : "thaw"); }}};
  }

  int run(std::vector<std::string> arguments, bool with_key = true) {
    arguments.insert(arguments.begin(), "admin");
    arguments.insert(arguments.end(), {"--url", url_});
    if (with_key) arguments.insert(arguments.end(), {"--key-file", key_file_});
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run_app(arguments, [](const std::string&) { return std::nullopt; });
    output_ = testing::internal::GetCapturedStdout();
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }

  const ScratchDirectory directory_;
  const std::string key_file_ = (directory_.path() / "keys").string();
  int num_looks_ = 0;
  std::vector<std::string> calls_;
  json::object workers_ =
      json::parse(R"({"experts": 64, "missing_experts": 2, "unanswered_experts": 3, "workers": [
          {"name": "worker-1", "state": "suspect", "state_seconds": 3.5, "host": "h", "pid": 12,
           "experts": 30, "experts_assigned": 32, "expert_bytes": 1048576, "queue_depth": 4,
           "reason": "silent for 1.2 s"}]})")
          .as_object();
  json::object placement_ =
      json::parse(R"({"table_version": 4, "target_version": 2, "target": null, "table":
          {"format": 1, "layers": [{"layers": [0, 2], "experts": {"a": ["0-3", 5]}}]}})")
          .as_object();
  coordinator::ApiServer server_;
  std::string url_, output_, errors_;
};

TEST_F(AdminTest, ListsWorkers) {
  ASSERT_EQ(run({"workers"}), 0) << errors_;
  EXPECT_THAT(output_,
              AllOf(HasSubstr("NAME      STATE    SINCE  PROCESS  EXPERTS"),
                    HasSubstr("worker-1  suspect  4 s    h:12     30/32    1.0 MiB  4      silent"),
                    HasSubstr("2 of 64 experts are held by no live worker\n"),
                    HasSubstr("3 of 64 experts are held only by workers that do not answer\n")));
}

TEST_F(AdminTest, JsonIsWhatTheServerSaid) {
  ASSERT_EQ(run({"workers", "--json"}), 0) << errors_;
  EXPECT_EQ(json::parse(output_), json::value(workers_));
}

TEST_F(AdminTest, DrainWaitsUntilTheWorkerIsGone) {
  ASSERT_EQ(run({"drain", "worker-1", "--wait"}), 0) << errors_;
  EXPECT_THAT(output_, AllOf(HasSubstr("its 16 experts move elsewhere"),
                             HasSubstr("worker-1: 16 experts\n"), HasSubstr("worker-1: gone\n")));
  EXPECT_EQ(num_looks_, 3);
}

TEST_F(AdminTest, TheRestReachesItsPath) {
  std::ofstream(directory_.path() / "p.json") << "{}";
  ASSERT_EQ(run({"remove", "worker-1"}), 0) << errors_;
  ASSERT_EQ(run({"placement", "set", (directory_.path() / "p.json").string()}), 0) << errors_;
  EXPECT_THAT(output_, HasSubstr("target 7"));
  ASSERT_EQ(run({"balancer"}), 0) << errors_;
  EXPECT_THAT(output_, HasSubstr("balancer   on\n"));
  ASSERT_EQ(run({"balancer", "freeze"}), 0) << errors_;
  EXPECT_THAT(output_, HasSubstr("balancer   frozen\n"));
  ASSERT_EQ(run({"balancer", "unfreeze"}), 0) << errors_;
  EXPECT_THAT(calls_, ElementsAre("worker-1", "{}", "look", "freeze", "thaw"));
}

TEST_F(AdminTest, ShowsThePlacement) {
  ASSERT_EQ(run({"placement", "show"}), 0) << errors_;
  EXPECT_THAT(output_, AllOf(HasSubstr("held and used (table 4):\n  LAYERS  WORKER  EXPERTS\n"
                                       "  [0,2]   a       0-3,5\n"),
                             HasSubstr("to be held (target 2):\n  none yet\n")));
}

TEST_F(AdminTest, ErrorsAreTheServersAndEndWithOne) {
  EXPECT_EQ(run({"drain", "worker-9"}), 1);
  EXPECT_THAT(errors_, HasSubstr("pregate admin: no worker is named \"worker-9\""));
  EXPECT_EQ(run({"workers"}, /*with_key=*/false), 1);
  EXPECT_THAT(errors_, AllOf(HasSubstr("a valid admin key is needed"), HasSubstr("--key-file")));
  server_.stop(Duration::zero());
  EXPECT_EQ(run({"workers"}), 1);
  EXPECT_THAT(errors_, HasSubstr(url_));
}

TEST_F(AdminTest, MistakesAreFoundBeforeAnythingIsSent) {
  EXPECT_EQ(run({"wrokers"}), 1);
  EXPECT_THAT(errors_, HasSubstr("did you mean workers?"));
  EXPECT_EQ(run({"drain"}), 1);
  EXPECT_THAT(errors_, HasSubstr("the name of one worker"));
  EXPECT_EQ(run({"drain", "a/b"}), 1);
  EXPECT_EQ(run({"balancer", "stop"}), 1);
  EXPECT_EQ(run({"placement", "set", "/no/such"}), 1);
  EXPECT_THAT(errors_, HasSubstr("/no/such"));
  EXPECT_TRUE(calls_.empty());
}

}  // namespace
}  // namespace pregate::cli
