#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "monitoring/metrics/cluster_probe.h"
#include "monitoring/metrics/dispatch_probe.h"
#include "monitoring/metrics/expert_cache_probe.h"
#include "monitoring/metrics/http_probe.h"
#include "monitoring/metrics/lookahead_probe.h"
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

void expect_samples(const std::string& scrape,
                    const std::vector<std::pair<std::string, double>>& samples) {
  for (const auto& [series, value] : samples) EXPECT_EQ(value_of(scrape, series), value) << series;
}

TEST(Buckets, CountsAreAOneTwoFiveSeries) {
  EXPECT_EQ(count_buckets(60), (Buckets{1, 2, 5, 10, 20, 50}));
  EXPECT_EQ(count_buckets(200).back(), 200);
}

TEST(ServingProbe, CountsAFinishedRequest) {
  Registry registry;
  ServingProbe probe(registry, "m");
  probe.first_scheduled(seconds(1));
  probe.request_finished({.finish = Finish::kLength,
                          .prompt_tokens = 7,
                          .generation_tokens = 5,
                          .num_choices = 2,
                          .max_tokens = 5,
                          .prefill = seconds(2),
                          .decode = seconds(4),
                          .total = seconds(7)});
  const std::string scrape = registry.scrape();
  const std::string labels = "{engine=\"0\",model_name=\"m\"}";
  expect_samples(scrape, {{"vllm:request_success_total{engine=\"0\",finished_reason=\"length\","
                           "model_name=\"m\"}",
                           1},
                          {"vllm:request_queue_time_seconds_sum" + labels, 1},
                          {"vllm:request_prefill_time_seconds_sum" + labels, 2},
                          {"vllm:request_decode_time_seconds_sum" + labels, 4},
                          {"vllm:request_inference_time_seconds_sum" + labels, 6},
                          {"vllm:e2e_request_latency_seconds_sum" + labels, 7},
                          {"vllm:request_time_per_output_token_seconds_sum" + labels, 1},
                          {"vllm:request_prompt_tokens_sum" + labels, 7},
                          {"vllm:request_generation_tokens_sum" + labels, 5},
                          {"vllm:request_params_n_sum" + labels, 2},
                          {"vllm:request_params_max_tokens_sum" + labels, 5}});
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
  expect_samples(scrape, {{"vllm:num_requests_running" + labels, 3},
                          {"vllm:num_requests_waiting" + labels, 4},
                          {"vllm:kv_cache_usage_perc" + labels, 0.25},
                          {"vllm:prompt_tokens_total" + labels, 10},
                          {"vllm:generation_tokens_total" + labels, 5},
                          {"vllm:iteration_tokens_total_count" + labels, 2},
                          {"vllm:prefix_cache_queries_total" + labels, 32},
                          {"vllm:prefix_cache_hits_total" + labels, 16},
                          {"vllm:num_preemptions_total" + labels, 1},
                          {"vllm:time_to_first_token_seconds_sum" + labels, 0.5},
                          {"vllm:inter_token_latency_seconds_count" + labels, 1}});
}

TEST(ServingProbe, GivesItsFiguresWithoutAScrape) {
  Registry registry;
  ServingProbe probe(registry, "m");
  probe.set_queues(3, 4);
  probe.set_waiting_for_experts(1);
  probe.set_cache_usage(0.25);
  probe.step_finished(10, 2);
  probe.step_finished(0, 3);
  probe.first_token(milliseconds(500));
  probe.next_token(milliseconds(2));
  probe.next_token(milliseconds(6));
  const ServingFigures figures = probe.figures();
  EXPECT_EQ(figures.running, 3u);
  EXPECT_EQ(figures.waiting, 4u);
  EXPECT_EQ(figures.waiting_for_experts, 1u);
  EXPECT_EQ(figures.cache_usage, 0.25);
  EXPECT_EQ(figures.prompt_tokens, 10u);
  EXPECT_EQ(figures.generated_tokens, 5u);
  EXPECT_DOUBLE_EQ(figures.first_token.seconds, 0.5);
  EXPECT_EQ(figures.first_token.count, 1u);
  EXPECT_DOUBLE_EQ(figures.inter_token.seconds, 0.008);
  EXPECT_EQ(figures.inter_token.count, 2u);
}

TEST(ServingProbe, CountsTheExpertsOfALayerUnderTheBatchPolicy) {
  Registry registry;
  ServingProbe probe(registry, "m");
  probe.set_batch_policy("expert-aware");
  probe.layer_routed(3);
  probe.layer_routed(4);
  expect_samples(registry.scrape(), {{"pregate_batch_policy_info{policy=\"expert-aware\"}", 1},
                                     {"pregate_step_experts_bucket{le=\"3\"}", 1},
                                     {"pregate_step_experts_count", 2},
                                     {"pregate_step_experts_sum", 7}});
}

TEST(ServingProbe, CountsLostRequests) {
  Registry registry;
  ServingProbe probe(registry, "m");
  EXPECT_EQ(value_of(registry.scrape(), "pregate_requests_lost_total"), 0);
  probe.request_lost();
  EXPECT_EQ(value_of(registry.scrape(), "pregate_requests_lost_total"), 1);
}

TEST(ServingProbe, CountsSequencesThatWaitForExperts) {
  Registry registry;
  ServingProbe probe(registry, "m");
  probe.set_waiting_for_experts(3);
  probe.waited_for_experts(milliseconds(250));
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape, "pregate_sequences_waiting_for_experts"), 3);
  EXPECT_EQ(value_of(scrape, "pregate_expert_wait_seconds_sum"), 0.25);
}

TEST(DispatchProbe, CountsPerWorkerAndPerExpert) {
  Registry registry;
  DispatchProbe probe(registry, {.num_layers = 2, .num_experts = 4, .per_expert = true});
  probe.dispatched("b", 5, 1000);
  probe.combined("b", {.whole = milliseconds(500), .compute = milliseconds(125)}, 800);
  probe.late_reply();
  probe.resent("late");
  probe.routed(LayerIdx(1), ExpertId(3), 5);
  const std::string scrape = registry.scrape();
  expect_samples(scrape,
                 {{"pregate_worker_tokens_total{worker=\"b\"}", 5},
                  {"pregate_dispatch_bytes_total{direction=\"sent\",worker=\"b\"}", 1000},
                  {"pregate_dispatch_bytes_total{direction=\"received\",worker=\"b\"}", 800},
                  {"pregate_dispatch_seconds_sum{worker=\"b\"}", 0.5},
                  {"pregate_dispatch_compute_seconds_total{worker=\"b\"}", 0.125},
                  {"pregate_dispatch_rows_sum", 5},
                  {"pregate_dispatch_late_replies_total", 1},
                  {"pregate_dispatch_resent_total{reason=\"late\"}", 1},
                  {"pregate_dispatch_resent_total{reason=\"lost\"}", 0},
                  {"pregate_expert_tokens_total{expert=\"3\",layer=\"1\"}", 5}});
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
  probe.heartbeat_received("a", 4);
  probe.heartbeat_received("a", 3);
  const std::string scrape = registry.scrape();
  expect_samples(scrape, {{"pregate_workers{state=\"ready\"}", 1},
                          {"pregate_workers{state=\"dead\"}", 1},
                          {"pregate_workers{state=\"loading\"}", 0},
                          {"pregate_worker_up{worker=\"a\"}", 1},
                          {"pregate_worker_up{worker=\"b\"}", 0},
                          {"pregate_worker_state_changes_total{state=\"ready\",worker=\"a\"}", 1},
                          {"pregate_worker_state_changes_total{state=\"dead\",worker=\"b\"}", 1},
                          {"pregate_worker_state_changes_total{state=\"dead\",worker=\"a\"}", 0},
                          {"pregate_worker_heartbeats_total{worker=\"a\"}", 2},
                          {"pregate_worker_experts{worker=\"a\"}", 7},
                          {"pregate_worker_expert_bytes{worker=\"a\"}", 700},
                          {"pregate_worker_reported_queue_depth{worker=\"a\"}", 3}});
}

TEST(ClusterProbe, AForgottenWorkerIsInNoState) {
  Registry registry;
  ClusterProbe probe(registry, {.worker_states = {"dead"}});
  probe.worker_changed("a", "dead", false);
  probe.forget_worker("a");
  EXPECT_EQ(value_of(registry.scrape(), "pregate_workers{state=\"dead\"}"), 0);
  EXPECT_THAT(registry.scrape(), Not(HasSubstr("worker=\"a\"")));
}

TEST(ClusterProbe, AWorkerThatIsNotToAnswerIsNeitherUpNorDown) {
  Registry registry;
  ClusterProbe probe(registry, {.worker_states = {"ready", "dead"}});
  const char* up = "pregate_worker_up{worker=\"a\"}";
  probe.worker_changed("a", "ready", true);
  probe.worker_changed("a", "dead", std::nullopt);
  EXPECT_THAT(registry.scrape(), Not(HasSubstr(up)));
  probe.worker_changed("a", "ready", true);
  EXPECT_EQ(value_of(registry.scrape(), up), 1);
}

TEST(ClusterProbe, CountsRefusalsAndRebalances) {
  Registry registry;
  ClusterProbe probe(registry, {{}, {"too_many", "no_answer"}, {"finished", "stalled"}});
  probe.join_refused("too_many");
  probe.table_changed(8, {0, 9, 2});
  probe.table_changed(9, {4, 7});
  probe.set_unanswered(6);
  probe.rebalanced("finished", seconds(3), 12);
  probe.set_rebalance_left(5);
  probe.set_imbalance(1.25);
  const std::string scrape = registry.scrape();
  expect_samples(scrape, {{"pregate_join_refusals_total{reason=\"too_many\"}", 1},
                          {"pregate_join_refusals_total{reason=\"no_answer\"}", 0},
                          {"pregate_placement_version", 9},
                          {"pregate_missing_experts", 4},
                          {"pregate_experts_with_replicas{replicas=\"0\"}", 4},
                          {"pregate_experts_with_replicas{replicas=\"1\"}", 7},
                          {"pregate_experts_with_replicas{replicas=\"2\"}", 0},
                          {"pregate_unanswered_experts", 6},
                          {"pregate_rebalances_total{outcome=\"finished\"}", 1},
                          {"pregate_rebalances_total{outcome=\"stalled\"}", 0},
                          {"pregate_rebalance_seconds_sum", 3},
                          {"pregate_rebalance_moved_experts_total", 12},
                          {"pregate_rebalance_left_replicas", 5},
                          {"pregate_imbalance", 1.25}});
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
  probe.set_waiting_for_room(4);
  probe.set_joined(true);
  probe.rejoined();
  probe.set_queue_depth(2);
  const std::string scrape = registry.scrape();
  expect_samples(scrape, {{"pregate_expert_rows_total", 7},
                          {"pregate_expert_compute_seconds_total", 0.5},
                          {"pregate_experts", 3},
                          {"pregate_expert_bytes", 123},
                          {"pregate_expert_loads_total", 2},
                          {"pregate_expert_load_errors_total", 1},
                          {"pregate_experts_waiting_for_room", 4},
                          {"pregate_joined", 1},
                          {"pregate_reconnects_total", 1},
                          {"pregate_worker_queue_depth", 2}});
}

TEST(ExpertCacheProbe, CountsLookUpsLoadsAndEvictions) {
  Registry registry;
  ExpertCacheProbe probe(registry);
  probe.set_budget(4000);
  probe.looked_up(3, 2);
  probe.looked_up(1, 0);
  probe.loaded_on_demand(milliseconds(250));
  probe.prefetched(milliseconds(250));
  probe.prefetched(milliseconds(500));
  probe.demand_failed();
  probe.prefetch_failed();
  probe.evicted(false);
  probe.evicted(true);
  probe.set_resident(3000);
  probe.waited(milliseconds(500));
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_budget_bytes"), 4000);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_hits_total"), 4);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_misses_total"), 2);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_loads_total{cause=\"demand\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_loads_total{cause=\"prefetch\"}"), 2);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_load_seconds_total"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_load_errors_total{cause=\"demand\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_load_errors_total{cause=\"prefetch\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_evictions_total"), 2);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_unused_prefetches_total"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_resident_bytes"), 3000);
  EXPECT_EQ(value_of(scrape, "pregate_expert_cache_wait_seconds_sum"), 0.5);
}

TEST(HttpProbe, CountsByHandlerMethodAndStatus) {
  Registry registry;
  HttpProbe probe(registry);
  probe.request_finished("/v1/models", "GET", 200, milliseconds(500));
  probe.request_finished("/v1/models", "GET", 200, milliseconds(500));
  probe.request_finished("/v1/models", "GET", 401, milliseconds(0));
  const std::string scrape = registry.scrape();
  expect_samples(scrape,
                 {{"http_requests_total{handler=\"/v1/models\",method=\"GET\","
                   "status=\"200\"}",
                   2},
                  {"http_request_duration_seconds_sum{handler=\"/v1/models\",method=\"GET\"}", 1}});
}

TEST(Registry, ReportsTheProcessItself) {
  const Registry registry;
  const std::string scrape = registry.scrape();
  EXPECT_GT(value_of(scrape, "process_resident_memory_bytes"), 1e6);
  EXPECT_GT(value_of(scrape, "process_open_fds"), 2);
  EXPECT_GE(value_of(scrape, "process_cpu_seconds_total"), 0);
}

TEST(LookaheadProbe, CountsByLayerAndSwitchingOffOnce) {
  Registry registry;
  LookaheadProbe probe(registry, "next_gate", {LayerIdx(1), LayerIdx(3)});
  const auto value = [&](const std::string& name, const std::string& labels) {
    return value_of(registry.scrape(), name + "{" + labels + "source=\"next_gate\"}");
  };
  EXPECT_EQ(value("pregate_lookahead_active", ""), 1);
  EXPECT_EQ(value("pregate_lookahead_guesses_total", "layer=\"1\","), 0);
  probe.measured(LayerIdx(3), 4, 3, 5);
  probe.measured(LayerIdx(3), 2, 0, 1);
  EXPECT_EQ(value("pregate_lookahead_guesses_total", "layer=\"3\","), 6);
  EXPECT_EQ(value("pregate_lookahead_hits_total", "layer=\"3\","), 3);
  EXPECT_EQ(value("pregate_lookahead_needed_total", "layer=\"3\","), 6);
  for (const bool active : {true, false, false, true, false}) probe.set_active(active);
  EXPECT_EQ(value("pregate_lookahead_active", ""), 0);
  EXPECT_EQ(value("pregate_lookahead_switched_off_total", ""), 2);
}

}  // namespace
}  // namespace pregate::monitoring
