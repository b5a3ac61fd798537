#include "monitoring/metrics/serving_probe.h"

#include "base/check.h"

namespace pregate::monitoring {
namespace {

// Token counts of one request: no context we serve is longer.
constexpr double kMaxRequestTokens = 200'000;
constexpr std::array<const char*, 4> kFinishNames = {"stop", "length", "abort", "error"};

prometheus::Labels with(prometheus::Labels labels, const std::string& name,
                        const std::string& value) {
  labels[name] = value;
  return labels;
}

uint64_t whole(double value) { return static_cast<uint64_t>(value); }

Observed observed(const prometheus::Histogram& histogram) {
  const auto seen = histogram.Collect().histogram;
  return {.seconds = seen.sample_sum, .count = seen.sample_count};
}

}  // namespace

// engine="0": gateways read one series only, so several engines are summed into one.
ServingProbe::ServingProbe(Registry& registry, const std::string& model_name)
    : registry_(registry),
      labels_{{"model_name", model_name}, {"engine", "0"}},
      lost_(registry
                .counters("pregate_requests_lost_total",
                          "Requests that ended because experts could not be reached.")
                .Add({})),
      waiting_for_experts_(registry
                               .gauges("pregate_sequences_waiting_for_experts",
                                       "Sequences that wait for experts that no worker holds.")
                               .Add({})),
      expert_wait_(registry
                       .histograms("pregate_expert_wait_seconds",
                                   "How long sequences waited for experts that no worker held.")
                       .Add({}, expert_wait_buckets())),
      layer_experts_(
          registry
              .histograms("pregate_step_experts", "Distinct experts of one MoE layer in one step.")
              .Add({}, expert_count_buckets())),
      running_(gauge("vllm:num_requests_running", "Requests in the running batch.")),
      waiting_(gauge("vllm:num_requests_waiting", "Requests waiting to be scheduled.")),
      cache_usage_(gauge("vllm:kv_cache_usage_perc", "Share of KV cache blocks in use, 0 to 1.")),
      prompt_tokens_(counter("vllm:prompt_tokens_total", "Prompt tokens computed.")),
      generation_tokens_(counter("vllm:generation_tokens_total", "Tokens generated.")),
      preemptions_(counter("vllm:num_preemptions_total", "Requests put back to make room.")),
      prefix_queries_(
          counter("vllm:prefix_cache_queries_total", "Tokens looked up in the prefix cache.")),
      prefix_hits_(counter("vllm:prefix_cache_hits_total", "Tokens found in the prefix cache.")),
      first_token_(histogram("vllm:time_to_first_token_seconds", "Arrival to first token.",
                             first_token_buckets())),
      inter_token_(histogram("vllm:inter_token_latency_seconds",
                             "Between two tokens of one choice.", inter_token_buckets())),
      time_per_token_(histogram("vllm:request_time_per_output_token_seconds",
                                "A request's mean time per token after the first.",
                                inter_token_buckets())),
      total_(histogram("vllm:e2e_request_latency_seconds", "Arrival to last token.",
                       request_buckets())),
      queue_(
          histogram("vllm:request_queue_time_seconds", "Time spent waiting.", request_buckets())),
      inference_(histogram("vllm:request_inference_time_seconds", "Prefill and decode.",
                           request_buckets())),
      prefill_(histogram("vllm:request_prefill_time_seconds", "First scheduled to first token.",
                         request_buckets())),
      decode_(
          histogram("vllm:request_decode_time_seconds", "First to last token.", request_buckets())),
      request_prompt_tokens_(histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.",
                                       count_buckets(kMaxRequestTokens))),
      request_generation_tokens_(histogram("vllm:request_generation_tokens",
                                           "Tokens generated for a request.",
                                           count_buckets(kMaxRequestTokens))),
      params_n_(histogram("vllm:request_params_n", "Choices asked for.", choice_buckets())),
      params_max_tokens_(histogram("vllm:request_params_max_tokens", "Token limit asked for.",
                                   count_buckets(kMaxRequestTokens))),
      iteration_tokens_(
          histogram("vllm:iteration_tokens_total", "Tokens of one step.", row_buckets())) {
  auto& success =
      registry_.counters("vllm:request_success_total", "Requests ended, by what ended them.");
  for (size_t i = 0; i < kFinishNames.size(); ++i) {
    success_[i] = &success.Add(with(labels_, "finished_reason", kFinishNames[i]));
  }
}

prometheus::Counter& ServingProbe::counter(const std::string& name, const std::string& help) {
  return registry_.counters(name, help).Add(labels_);
}

prometheus::Gauge& ServingProbe::gauge(const std::string& name, const std::string& help) {
  return registry_.gauges(name, help).Add(labels_);
}

prometheus::Histogram& ServingProbe::histogram(const std::string& name, const std::string& help,
                                               const Buckets& buckets) {
  return registry_.histograms(name, help).Add(labels_, buckets);
}

void ServingProbe::set_cache_config(uint32_t block_tokens, uint64_t num_blocks) {
  auto labels = with(labels_, "block_size", std::to_string(block_tokens));
  labels = with(std::move(labels), "num_gpu_blocks", std::to_string(num_blocks));
  registry_.gauges("vllm:cache_config_info", "1; the labels say how the KV cache is cut.")
      .Add(labels)
      .Set(1);
}

void ServingProbe::set_batch_policy(const std::string& name) {
  registry_.gauges("pregate_batch_policy_info", "1; the label says who comes first in a step.")
      .Add({{"policy", name}})
      .Set(1);
}

void ServingProbe::set_queues(uint64_t running, uint64_t waiting) {
  running_.Set(static_cast<double>(running));
  waiting_.Set(static_cast<double>(waiting));
}

void ServingProbe::step_finished(uint64_t prompt_tokens, uint64_t generated_tokens) {
  prompt_tokens_.Increment(static_cast<double>(prompt_tokens));
  generation_tokens_.Increment(static_cast<double>(generated_tokens));
  iteration_tokens_.Observe(static_cast<double>(prompt_tokens + generated_tokens));
}

void ServingProbe::prefix_looked_up(uint64_t tokens, uint64_t hits) {
  PREGATE_CHECK(hits <= tokens);
  prefix_queries_.Increment(static_cast<double>(tokens));
  prefix_hits_.Increment(static_cast<double>(hits));
}

void ServingProbe::request_finished(const FinishedRequest& request) {
  success_[static_cast<size_t>(request.finish)]->Increment();
  prefill_.Observe(to_seconds(request.prefill));
  decode_.Observe(to_seconds(request.decode));
  inference_.Observe(to_seconds(request.prefill + request.decode));
  total_.Observe(to_seconds(request.total));
  if (request.generation_tokens > 1) {
    time_per_token_.Observe(to_seconds(request.decode) / (request.generation_tokens - 1));
  }
  request_prompt_tokens_.Observe(request.prompt_tokens);
  request_generation_tokens_.Observe(request.generation_tokens);
  params_n_.Observe(request.num_choices);
  params_max_tokens_.Observe(request.max_tokens);
}

ServingFigures ServingProbe::figures() const {
  return {.running = whole(running_.Value()),
          .waiting = whole(waiting_.Value()),
          .waiting_for_experts = whole(waiting_for_experts_.Value()),
          .cache_usage = cache_usage_.Value(),
          .prompt_tokens = whole(prompt_tokens_.Value()),
          .generated_tokens = whole(generation_tokens_.Value()),
          .first_token = observed(first_token_),
          .inter_token = observed(inter_token_)};
}

}  // namespace pregate::monitoring
