#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "monitoring/metrics/cluster_probe.h"
#include "monitoring/metrics/dispatch_probe.h"
#include "monitoring/metrics/http_probe.h"
#include "monitoring/metrics/serving_probe.h"
#include "monitoring/metrics/worker_probe.h"

namespace pregate::monitoring {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

/// The value of the sample whose line starts with `series` and a space.
double value_of(const std::string& scrape, const std::string& series) {
  const size_t at = ("\n" + scrape).find("\n" + series + " ");
  if (at == std::string::npos) throw std::runtime_error("no series " + series + " in\n" + scrape);
  return std::stod(scrape.substr(at + series.size() + 1));
}

TEST(Buckets, CountsAreAOneTwoFiveSeries) {
  EXPECT_EQ(count_buckets(60), (Buckets{1, 2, 5, 10, 20, 50}));
  EXPECT_EQ(count_buckets(200).back(), 200);
}

TEST(ServingProbe, CountsAFinishedRequest) {
  Registry registry;
  ServingProbe probe(registry, "m");
  probe.request_finished({.finish = Finish::kLength,
                          .prompt_tokens = 7,
                          .generation_tokens = 5,
                          .num_choices = 2,
                          .max_tokens = 5,
                          .queue = seconds(1),
                          .prefill = seconds(2),
                          .decode = seconds(4),
                          .total = seconds(7)});
  const std::string scrape = registry.scrape();
  const std::string labels = "{engine=\"0\",model_name=\"m\"}";
  EXPECT_EQ(value_of(scrape,
                     "vllm:request_success_total{engine=\"0\",finished_reason=\"length\","
                     "model_name=\"m\"}"),
            1);
  EXPECT_EQ(value_of(scrape, "vllm:request_queue_time_seconds_sum" + labels), 1);
  EXPECT_EQ(value_of(scrape, "vllm:request_prefill_time_seconds_sum" + labels), 2);
  EXPECT_EQ(value_of(scrape, "vllm:request_decode_time_seconds_sum" + labels), 4);
  EXPECT_EQ(value_of(scrape, "vllm:request_inference_time_seconds_sum" + labels), 6);
  EXPECT_EQ(value_of(scrape, "vllm:e2e_request_latency_seconds_sum" + labels), 7);
  EXPECT_EQ(value_of(scrape, "vllm:request_time_per_output_token_seconds_sum" + labels), 1);
  EXPECT_EQ(value_of(scrape, "vllm:request_prompt_tokens_sum" + labels), 7);
  EXPECT_EQ(value_of(scrape, "vllm:request_generation_tokens_sum" + labels), 5);
  EXPECT_EQ(value_of(scrape, "vllm:request_params_n_sum" + labels), 2);
  EXPECT_EQ(value_of(scrape, "vllm:request_params_max_tokens_sum" + labels), 5);
}

TEST(ServingProbe, CountsStepsQueuesAndCache) {
  Registry registry;
  ServingProbe probe(registry, "m");
  probe.set_queues(3, 4);
  probe.set_cache_usage(0.25);
  probe.step_finished(10, 2);
  probe.step_finished(0, 3);
  probe.prefix_looked_up(32, 16);
  probe.preempted();
  probe.first_token(milliseconds(500));
  probe.next_token(milliseconds(2));
  const std::string scrape = registry.scrape();
  const std::string labels = "{engine=\"0\",model_name=\"m\"}";
  EXPECT_EQ(value_of(scrape, "vllm:num_requests_running" + labels), 3);
  EXPECT_EQ(value_of(scrape, "vllm:num_requests_waiting" + labels), 4);
  EXPECT_EQ(value_of(scrape, "vllm:kv_cache_usage_perc" + labels), 0.25);
  EXPECT_EQ(value_of(scrape, "vllm:prompt_tokens_total" + labels), 10);
  EXPECT_EQ(value_of(scrape, "vllm:generation_tokens_total" + labels), 5);
  EXPECT_EQ(value_of(scrape, "vllm:iteration_tokens_total_count" + labels), 2);
  EXPECT_EQ(value_of(scrape, "vllm:prefix_cache_queries_total" + labels), 32);
  EXPECT_EQ(value_of(scrape, "vllm:prefix_cache_hits_total" + labels), 16);
  EXPECT_EQ(value_of(scrape, "vllm:num_preemptions_total" + labels), 1);
  EXPECT_EQ(value_of(scrape, "vllm:time_to_first_token_seconds_sum" + labels), 0.5);
  EXPECT_EQ(value_of(scrape, "vllm:inter_token_latency_seconds_count" + labels), 1);
}

TEST(ServingProbe, CountsLostRequests) {
  Registry registry;
  ServingProbe probe(registry, "m");
  EXPECT_EQ(value_of(registry.scrape(), "pregate_requests_lost_total"), 0);
  probe.request_lost();
  EXPECT_EQ(value_of(registry.scrape(), "pregate_requests_lost_total"), 1);
}

TEST(DispatchProbe, CountsPerWorkerAndPerExpert) {
  Registry registry;
  DispatchProbe probe(registry, {.num_layers = 2, .num_experts = 4, .per_expert = true});
  probe.dispatched("b", 5, 1000);
  probe.combined("b", milliseconds(500), 800);
  probe.late_reply();
  probe.resent("late");
  probe.rows_waited(milliseconds(250));
  probe.routed(LayerIdx(1), ExpertId(3), 5);
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape, "pregate_worker_tokens_total{worker=\"b\"}"), 5);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_bytes_total{direction=\"sent\",worker=\"b\"}"),
            1000);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_bytes_total{direction=\"received\",worker=\"b\"}"),
            800);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_seconds_sum{worker=\"b\"}"), 0.5);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_rows_sum"), 5);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_late_replies_total"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_resent_total{reason=\"late\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_resent_total{reason=\"lost\"}"), 0);
  EXPECT_EQ(value_of(scrape, "pregate_expert_wait_seconds_sum"), 0.25);
  EXPECT_EQ(value_of(scrape, "pregate_expert_tokens_total{expert=\"3\",layer=\"1\"}"), 5);
}

TEST(DispatchProbe, PerExpertSeriesOnlyOnRequest) {
  Registry registry;
  DispatchProbe probe(registry, {.num_layers = 2, .num_experts = 4});
  probe.routed(LayerIdx(1), ExpertId(3), 5);
  EXPECT_THAT(registry.scrape(), Not(HasSubstr("pregate_expert_tokens_total")));
}

TEST(DispatchProbe, AForgottenWorkersSeriesEndAndBeginAtZeroAgain) {
  Registry registry;
  DispatchProbe probe(registry, {});
  probe.dispatched("a", 5, 1000);
  probe.dispatched("b", 5, 1000);
  probe.forget_worker("a");
  probe.forget_worker("nobody");
  EXPECT_THAT(registry.scrape(), Not(HasSubstr("worker=\"a\"")));
  EXPECT_EQ(value_of(registry.scrape(), "pregate_worker_tokens_total{worker=\"b\"}"), 5);
  probe.dispatched("a", 1, 1);
  EXPECT_EQ(value_of(registry.scrape(), "pregate_worker_tokens_total{worker=\"a\"}"), 1);
}

TEST(ClusterProbe, FollowsAWorkersStates) {
  Registry registry;
  ClusterProbe probe(registry, {.worker_states = {"ready", "dead", "loading"}});
  probe.worker_changed("a", "ready", true);
  probe.worker_changed("a", "ready", true);  // no change of state
  probe.worker_changed("b", "ready", true);
  probe.worker_changed("b", "dead", false);
  probe.worker_holds("a", 7, 700);
  probe.worker_queue_depth("a", 3);
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape, "pregate_workers{state=\"ready\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_workers{state=\"dead\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_workers{state=\"loading\"}"), 0);
  EXPECT_EQ(value_of(scrape, "pregate_worker_up{worker=\"a\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_worker_up{worker=\"b\"}"), 0);
  EXPECT_EQ(value_of(scrape, "pregate_worker_state_changes_total{state=\"ready\",worker=\"a\"}"),
            1);
  EXPECT_EQ(value_of(scrape, "pregate_worker_state_changes_total{state=\"dead\",worker=\"b\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_worker_experts{worker=\"a\"}"), 7);
  EXPECT_EQ(value_of(scrape, "pregate_worker_expert_bytes{worker=\"a\"}"), 700);
  EXPECT_EQ(value_of(scrape, "pregate_worker_reported_queue_depth{worker=\"a\"}"), 3);
}

TEST(ClusterProbe, AForgottenWorkerIsInNoState) {
  Registry registry;
  ClusterProbe probe(registry, {.worker_states = {"dead"}});
  probe.worker_changed("a", "dead", false);
  probe.forget_worker("a");
  EXPECT_EQ(value_of(registry.scrape(), "pregate_workers{state=\"dead\"}"), 0);
  EXPECT_THAT(registry.scrape(), Not(HasSubstr("worker=\"a\"")));
}

TEST(ClusterProbe, CountsRefusalsAndRebalances) {
  Registry registry;
  ClusterProbe probe(registry, {{}, {"too_many", "no_answer"}, {"finished", "stalled"}});
  probe.join_refused("too_many");
  probe.table_changed(9, 4);
  probe.rebalanced("finished", seconds(3), 12);
  probe.set_rebalance_left(5);
  probe.set_imbalance(1.25);
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape, "pregate_join_refusals_total{reason=\"too_many\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_join_refusals_total{reason=\"no_answer\"}"), 0);
  EXPECT_EQ(value_of(scrape, "pregate_placement_version"), 9);
  EXPECT_EQ(value_of(scrape, "pregate_missing_experts"), 4);
  EXPECT_EQ(value_of(scrape, "pregate_rebalances_total{outcome=\"finished\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_rebalances_total{outcome=\"stalled\"}"), 0);
  EXPECT_EQ(value_of(scrape, "pregate_rebalance_seconds_sum"), 3);
  EXPECT_EQ(value_of(scrape, "pregate_rebalance_moved_experts_total"), 12);
  EXPECT_EQ(value_of(scrape, "pregate_rebalance_left_replicas"), 5);
  EXPECT_EQ(value_of(scrape, "pregate_imbalance"), 1.25);
}

TEST(WorkerProbe, CountsWhatItComputed) {
  Registry registry;
  WorkerProbe probe(registry);
  probe.computed(3, milliseconds(250));
  probe.computed(4, milliseconds(250));
  probe.set_experts(3, 123);
  probe.expert_loaded();
  probe.expert_loaded();
  probe.load_failed();
  probe.set_joined(true);
  probe.rejoined();
  probe.set_queue_depth(2);
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape, "pregate_expert_rows_total"), 7);
  EXPECT_EQ(value_of(scrape, "pregate_expert_compute_seconds_total"), 0.5);
  EXPECT_EQ(value_of(scrape, "pregate_experts"), 3);
  EXPECT_EQ(value_of(scrape, "pregate_expert_bytes"), 123);
  EXPECT_EQ(value_of(scrape, "pregate_expert_loads_total"), 2);
  EXPECT_EQ(value_of(scrape, "pregate_expert_load_errors_total"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_joined"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_reconnects_total"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_worker_queue_depth"), 2);
}

TEST(HttpProbe, CountsByHandlerMethodAndStatus) {
  Registry registry;
  HttpProbe probe(registry);
  probe.request_finished("/v1/models", "GET", 200, milliseconds(500));
  probe.request_finished("/v1/models", "GET", 200, milliseconds(500));
  probe.request_finished("/v1/models", "GET", 401, milliseconds(0));
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape,
                     "http_requests_total{handler=\"/v1/models\",method=\"GET\","
                     "status=\"200\"}"),
            2);
  EXPECT_EQ(
      value_of(scrape, "http_request_duration_seconds_sum{handler=\"/v1/models\",method=\"GET\"}"),
      1);
}

TEST(Registry, ReportsTheProcessItself) {
  const Registry registry;
  const std::string scrape = registry.scrape();
  EXPECT_GT(value_of(scrape, "process_resident_memory_bytes"), 1e6);
  EXPECT_GT(value_of(scrape, "process_open_fds"), 2);
  EXPECT_GE(value_of(scrape, "process_cpu_seconds_total"), 0);
}

}  // namespace
}  // namespace pregate::monitoring
