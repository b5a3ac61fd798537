#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST(DispatchProbe, CountsPerWorkerAndPerExpert) {
  Registry registry;
  DispatchProbe probe(registry, {{"0", "1"}, 2, 4, true});
  probe.set_worker_up(1, true);
  probe.dispatched(1, 5, 1000);
  probe.combined(1, milliseconds(500), 800);
  probe.late_reply();
  probe.routed(LayerIdx(1), ExpertId(3), 5);
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape, "pregate_worker_up{worker=\"0\"}"), 0);
  EXPECT_EQ(value_of(scrape, "pregate_worker_up{worker=\"1\"}"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_worker_tokens_total{worker=\"1\"}"), 5);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_bytes_total{direction=\"sent\",worker=\"1\"}"),
            1000);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_bytes_total{direction=\"received\",worker=\"1\"}"),
            800);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_seconds_sum{worker=\"1\"}"), 0.5);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_rows_sum"), 5);
  EXPECT_EQ(value_of(scrape, "pregate_dispatch_late_replies_total"), 1);
  EXPECT_EQ(value_of(scrape, "pregate_expert_tokens_total{expert=\"3\",layer=\"1\"}"), 5);
}

TEST(DispatchProbe, PerExpertSeriesOnlyOnRequest) {
  Registry registry;
  DispatchProbe probe(registry, {{"0"}, 2, 4, false});
  probe.routed(LayerIdx(1), ExpertId(3), 5);
  EXPECT_THAT(registry.scrape(), Not(HasSubstr("pregate_expert_tokens_total")));
}

TEST(WorkerProbe, CountsWhatItComputed) {
  Registry registry;
  WorkerProbe probe(registry);
  probe.computed(3, milliseconds(250));
  probe.computed(4, milliseconds(250));
  probe.set_expert_bytes(123);
  probe.set_queue_depth(2);
  const std::string scrape = registry.scrape();
  EXPECT_EQ(value_of(scrape, "pregate_expert_rows_total"), 7);
  EXPECT_EQ(value_of(scrape, "pregate_expert_compute_seconds_total"), 0.5);
  EXPECT_EQ(value_of(scrape, "pregate_expert_bytes"), 123);
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
