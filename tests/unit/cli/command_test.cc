// Runs the commands' own flags through command line, environment and config file.

#include "cli/command.h"

#include <fstream>
#include <map>
#include <optional>

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/serve.h"
#include "cli/version.h"
#include "cli/worker.h"
#include "tests/support/scratch_directory.h"

namespace pregate::cli {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::StartsWith;

class CommandTest : public testing::Test {
 protected:
  CommandTest() {
    commands_ = {add_serve(app_,
                           [this](const ServeOptions& options) {
                             served_ = options;
                             return outcome_;
                           }),
                 add_worker(app_, [](const WorkerOptions&) { return Status(); }),
                 add_version(app_)};
  }

  int run(std::vector<std::string> arguments) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run_command(app_, commands_, arguments, [this](const std::string& name) {
      const auto found = environment_.find(name);
      return found == environment_.end() ? std::nullopt : std::optional(found->second);
    });
    output_ = testing::internal::GetCapturedStdout();
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }

  /// Runs `serve --model m --config FILE` with more arguments.
  int run_with_config(const std::string& config, const std::vector<std::string>& more = {}) {
    std::ofstream(config_path_) << config;
    std::vector<std::string> arguments = {"serve", "--model", "m", "--config", config_path_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }

  CLI::App app_{"Test program", "pregate"};
  std::vector<Command> commands_;
  std::map<std::string, std::string> environment_;
  Status outcome_;
  std::optional<ServeOptions> served_;
  std::string output_;
  std::string errors_;
  const ScratchDirectory directory_;
  const std::string config_path_ = directory_.path() / "config.toml";
};

TEST_F(CommandTest, DefaultsHold) {
  ASSERT_EQ(run({"serve", "--model", "m"}), kExitOk) << errors_;
  EXPECT_EQ(served_->model.model, "m");
  EXPECT_EQ(served_->model.weights, compute::WeightFormat::kBf16);
  EXPECT_EQ(served_->http.host, "127.0.0.1");
  EXPECT_EQ(served_->http.port, 8000U);
  EXPECT_EQ(served_->cluster.heartbeat_interval, milliseconds(250));
  EXPECT_FALSE(served_->batching.no_prefix_caching);
}

TEST_F(CommandTest, WeightsAreReadByName) {
  ASSERT_EQ(run({"serve", "--model", "m", "--weights", "q4"}), kExitOk) << errors_;
  EXPECT_EQ(served_->model.weights, compute::WeightFormat::kQ4);
}

TEST_F(CommandTest, EveryKindOfFlagIsRead) {
  ASSERT_EQ(run({"serve", "--model=m", "--weights", "q8", "--kv-cache-bytes", "1.5G", "--port", "0",
                 "--drain-timeout", "2m", "--reproducible", "--placement", "p.toml", "--kv-type",
                 "f32", "--log-level", "debug"}),
            kExitOk)
      << errors_;
  EXPECT_EQ(served_->model.weights, compute::WeightFormat::kQ8);
  EXPECT_EQ(served_->batching.kv_cache_bytes, uint64_t{3} << 29);
  EXPECT_EQ(served_->batching.kv_dtype, compute::DType::kF32);
  EXPECT_EQ(served_->http.port, 0U);
  EXPECT_EQ(served_->http.drain_timeout, milliseconds(120'000));
  EXPECT_EQ(served_->dispatch.placement, "p.toml");
  EXPECT_TRUE(served_->dispatch.reproducible);
  EXPECT_EQ(served_->general.log_level, "debug");
}

TEST_F(CommandTest, TheBatchPolicyHasAName) {
  using coordinator::BatchPolicyName;
  ASSERT_EQ(run({"serve", "--model", "m"}), kExitOk) << errors_;
  EXPECT_EQ(served_->batching.policy, BatchPolicyName::kDecodeFirst);
  ASSERT_EQ(
      run({"serve", "--model", "m", "--batch-policy", "expert-aware", "--max-passed-over", "3"}),
      kExitOk)
      << errors_;
  EXPECT_EQ(served_->batching.policy, BatchPolicyName::kExpertAware);
  EXPECT_EQ(served_->batching.max_passed_over, 3U);
  EXPECT_NE(run({"serve", "--model", "m", "--batch-policy", "fair"}), kExitOk);
  EXPECT_THAT(errors_, HasSubstr("prefill-first"));
}

TEST_F(CommandTest, AFlagMayHaveTwoNames) {
  ASSERT_EQ(run({"serve", "--model", "m", "--device", "cuda:1"}), kExitOk) << errors_;
  EXPECT_EQ(served_->model.backend, "cuda:1");
  ASSERT_EQ(run_with_config("device = \"cuda:2\"\n"), kExitOk) << errors_;
  EXPECT_EQ(served_->model.backend, "cuda:2");
  ASSERT_EQ(run_with_config("backend = \"cuda:3\"\n"), kExitOk) << errors_;
  EXPECT_EQ(served_->model.backend, "cuda:3");
  environment_ = {{"PREGATE_DEVICE", "cuda:4"}};
  ASSERT_EQ(run({"serve", "--model", "m"}), kExitOk) << errors_;
  EXPECT_EQ(served_->model.backend, "cuda:4");
  ASSERT_EQ(run({"serve", "--model", "m", "--backend", "cpu"}), kExitOk) << errors_;
  EXPECT_EQ(served_->model.backend, "cpu");
}

TEST_F(CommandTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const std::string config = "port = 1\nmax_queue = 1\nmax_num_seqs = 1\n";
  environment_ = {{"PREGATE_PORT", "2"}, {"PREGATE_MAX_QUEUE", "2"}};
  ASSERT_EQ(run_with_config(config, {"--port", "3"}), kExitOk) << errors_;
  EXPECT_EQ(served_->http.port, 3U);
  EXPECT_EQ(served_->batching.max_queue, 2U);
  EXPECT_EQ(served_->batching.max_num_seqs, 1U);
  EXPECT_EQ(served_->batching.max_num_batched_tokens, 512U);
}

TEST_F(CommandTest, OwnSectionBeatsGeneralKeysAndOthersAreLeftAlone) {
  ASSERT_EQ(run_with_config("port = 1\nmetrics-port = 7\n[serve]\nport = 2\n"
                            "[worker]\nthreads = 9\n"),
            kExitOk)
      << errors_;
  EXPECT_EQ(served_->http.port, 2U);
  EXPECT_EQ(served_->metrics.metrics_port, 7U);
  EXPECT_EQ(served_->model.num_threads, 0U);
}

TEST_F(CommandTest, ConfigAndModelCanComeFromTheEnvironment) {
  std::ofstream(config_path_) << "port = 5\nreproducible = true\nkv-cache-bytes = \"2M\"\n"
                                 "drain_timeout = 0.25\n";
  environment_ = {{"PREGATE_CONFIG", config_path_},
                  {"PREGATE_MODEL", "m"},
                  {"PREGATE_NO_PREFIX_CACHING", "true"}};
  ASSERT_EQ(run({"serve"}), kExitOk) << errors_;
  EXPECT_EQ(served_->http.port, 5U);
  EXPECT_TRUE(served_->dispatch.reproducible);
  EXPECT_TRUE(served_->batching.no_prefix_caching);
  EXPECT_EQ(served_->batching.kv_cache_bytes, uint64_t{2} << 20);
  EXPECT_EQ(served_->http.drain_timeout, milliseconds(250));
}

TEST_F(CommandTest, UnknownKeySuggestsTheNearOne) {
  EXPECT_EQ(run_with_config("\nmax_modl_len = 4\n"), kExitUsage);
  EXPECT_THAT(errors_, StartsWith("pregate: serve: " + config_path_ +
                                  ":2: max-modl-len: unknown key; did you mean max-model-len?\n"
                                  "See pregate serve --help\n"));
}

TEST_F(CommandTest, MistakesInOtherSectionsAreReportedToo) {
  EXPECT_EQ(run_with_config("[worker]\nport = 4\n"), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr(":2: port: unknown key"));
  EXPECT_EQ(run_with_config("[wroker]\nthreads = 4\n"), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr(":2: [wroker] is no command; did you mean worker?"));
}

TEST_F(CommandTest, WrongTypesInTheFileAreNamed) {
  EXPECT_EQ(run_with_config("port = \"eighty\"\n"), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr(":1: port: expected a whole number, got eighty"));
  EXPECT_EQ(run_with_config("reproducible = 1\n"), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr(":1: reproducible: expected true or false, got 1"));
  EXPECT_EQ(run_with_config("host = 1\n"), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr(":1: host: expected text in quotes, got 1"));
}

TEST_F(CommandTest, WrongValuesAreNamedWithTheirSource) {
  EXPECT_EQ(run({"serve", "--model", "m", "--port", "70000"}), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("--port: expected a whole number from 0 to 65535, got \"70000\""));
  EXPECT_EQ(run({"serve", "--model", "m", "--weights", "int4"}), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("--weights: expected one of bf16, f32, q8, q4, f8, got \"int4\""));
  EXPECT_EQ(run_with_config("kv-type = \"f64\"\n"), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr(":1: kv-type: expected one of bf16, f32, got \"f64\""));
  environment_ = {{"PREGATE_KV_CACHE_BYTES", "lots"}};
  EXPECT_EQ(run({"serve", "--model", "m"}), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("PREGATE_KV_CACHE_BYTES: expected a size such as"));
  EXPECT_FALSE(served_);
}

TEST_F(CommandTest, WhatIsNeededIsAskedFor) {
  EXPECT_EQ(run({"serve"}), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("--model is needed (as a flag, as PREGATE_MODEL, or in"));
}

TEST_F(CommandTest, UnknownCommandsAndFlagsSuggestTheNearOne) {
  EXPECT_EQ(run({"sevre", "--model", "m"}), kExitUsage);
  EXPECT_THAT(errors_, StartsWith("pregate: sevre: no such command; did you mean serve?\n"));
  EXPECT_EQ(run({"serve", "--model", "m", "--prot", "1"}), kExitUsage);
  EXPECT_THAT(errors_, StartsWith("pregate: serve --prot: not expected; did you mean --port?\n"));
  EXPECT_EQ(run({"serve", "--model", "m", "--prot=1"}), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("did you mean --port?"));
}

TEST_F(CommandTest, HelpIsOnStandardOutput) {
  EXPECT_EQ(run({"--help"}), kExitOk);
  EXPECT_THAT(output_, HasSubstr("serve"));
  EXPECT_EQ(run({"serve", "--help"}), kExitOk);
  EXPECT_THAT(output_, HasSubstr("Usage: pregate serve [OPTIONS]"));
  EXPECT_THAT(output_, HasSubstr("--max-num-batched-tokens"));
  EXPECT_THAT(output_, HasSubstr("Examples:"));
  EXPECT_EQ(errors_, "");
  EXPECT_EQ(run({}), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("serve"));
}

TEST_F(CommandTest, AFailedRunSaysWhyAndExitsWithOne) {
  outcome_ = fail(ErrorCode::kNotFound, "m/config.json: cannot open");
  EXPECT_EQ(run({"serve", "--model", "m"}), kExitFailed);
  EXPECT_EQ(errors_, "pregate serve: m/config.json: cannot open\n");
}

TEST_F(CommandTest, HeartbeatsMustFitTheirDeadlines) {
  EXPECT_EQ(run({"serve", "--model", "m", "--suspect-after", "300ms"}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr("--suspect-after 300 ms: expected at least twice"));
}

TEST_F(CommandTest, ADeadWorkerIsSuspectFirst) {
  EXPECT_EQ(run({"serve", "--model", "m", "--dead-after", "900ms"}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr("--dead-after 900 ms: expected at least --suspect-after"));
}

TEST_F(CommandTest, ClusterFlagsAreRead) {
  ASSERT_EQ(run({"serve",
                 "--model",
                 "m",
                 "--workers",
                 "3",
                 "--replicas",
                 "2",
                 "--extra-replicas",
                 "0.25",
                 "--expert-wait",
                 "5s",
                 "--rebalance-interval",
                 "1m",
                 "--rebalance-rate",
                 "16M",
                 "--freeze-balancer",
                 "--dispatch-timeout",
                 "500ms",
                 "--admin-key-file",
                 "k",
                 "--dead-after",
                 "20s"}),
            kExitOk)
      << errors_;
  EXPECT_EQ(served_->num_workers, 3U);
  EXPECT_EQ(served_->balance.replicas, 2U);
  EXPECT_EQ(served_->balance.extra_replicas, 0.25);
  EXPECT_EQ(served_->balance.interval, milliseconds(60'000));
  EXPECT_EQ(served_->balance.bytes_per_second, uint64_t{16} << 20);
  EXPECT_TRUE(served_->balance.frozen);
  EXPECT_EQ(served_->dispatch.expert_wait, milliseconds(5000));
  EXPECT_EQ(served_->dispatch.dispatch_timeout, milliseconds(500));
  EXPECT_EQ(served_->admin.key_file, "k");
  EXPECT_EQ(served_->cluster.dead_after, milliseconds(20'000));
}

TEST_F(CommandTest, SharesAreNumbersFromZeroToOne) {
  EXPECT_EQ(run({"serve", "--model", "m", "--extra-replicas", "1.5"}), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("--extra-replicas: expected a number from 0 to 1, got \"1.5\""));
  ASSERT_EQ(run_with_config("extra-replicas = 0.5\n"), kExitOk) << errors_;
  EXPECT_EQ(served_->balance.extra_replicas, 0.5);
  EXPECT_EQ(run_with_config("extra-replicas = \"half\"\n"), kExitUsage);
}

TEST_F(CommandTest, VersionNamesItsBackEnds) {
  EXPECT_EQ(run({"version"}), kExitOk);
  EXPECT_THAT(output_, StartsWith("pregate " + std::string(kVersion)));
  EXPECT_THAT(output_, HasSubstr("reference"));
}

}  // namespace
}  // namespace pregate::cli
