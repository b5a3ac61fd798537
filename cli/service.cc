#include "cli/service.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <future>

#include "base/log.h"
#include "cli/measured_lookahead.h"
#include "cli/progress.h"
#include "cli/version.h"
#include "cli/weight_name.h"
#include "coordinator/api/auth.h"

namespace pregate::cli {
namespace {

namespace json = boost::json;
using coordinator::ApiOptions;
using coordinator::Readiness;

constexpr auto kStopPoll = std::chrono::milliseconds(50);

std::string name_of(const ServiceOptions& options) {
  if (!options.http.served_model_name.empty()) return options.http.served_model_name;
  const auto directory = std::filesystem::weakly_canonical(options.model.model);
  return directory.filename().string();
}

engine::SamplingParams default_sampling(const model::SamplingDefaults& defaults) {
  engine::SamplingParams params;
  const auto take = [](const std::optional<double>& value, float& field) {
    if (value) field = static_cast<float>(*value);
  };
  take(defaults.temperature, params.temperature);
  take(defaults.top_p, params.top_p);
  take(defaults.min_p, params.min_p);
  take(defaults.repetition_penalty, params.repetition_penalty);
  if (defaults.top_k) params.top_k = static_cast<int32_t>(*defaults.top_k);
  return params;
}

bool has_shared_expert(const model::ModelConfig& config) {
  return std::ranges::any_of(config.layers, [&](const model::LayerConfig& layer) {
    return layer.is_moe && layer.shared_size.value_or(config.shared_intermediate_size) > 0;
  });
}

}  // namespace

RuntimeOptions runtime_options(const ModelOptions& model, const BatchingOptions& batching) {
  return {.model = model.model,
          .weights = model.weights,
          .kv_dtype = batching.kv_dtype,
          .backend = model.backend,
          .num_threads = thread_count(model.num_threads),
          .kv_cache_bytes = batching.kv_cache_bytes,
          .max_model_len = batching.max_model_len,
          .max_num_seqs = batching.max_num_seqs,
          .preview_experts = batching.policy == coordinator::BatchPolicyName::kExpertAware};
}

ServiceOptions service_options(const CoordinatorOptions& options, std::string workers_as) {
  return {.model = options.model,
          .batching = options.batching,
          .http = options.http,
          .admin = options.admin,
          .lookahead = options.lookahead,
          .expert_wait = options.dispatch.expert_wait,
          .workers_as = std::move(workers_as)};
}

Service::Service(ServiceOptions options, monitoring::Registry& registry)
    : options_(std::move(options)),
      registry_(registry),
      serving_probe_(registry, name_of(options_)),
      http_probe_(registry),
      start_probe_(registry, kVersion) {
  auto progress = std::make_shared<Progress>(Progress::standard_error(), system_clock());
  show_progress_ = [progress](const std::string& phase, size_t done, size_t total) {
    progress->update(phase, done, total);
  };
}

void Service::leave_now(const char* reason, int code) const {
  spdlog::warn("{}", reason);
  spdlog::shutdown();
  options_.before_hard_exit();
  std::_Exit(code);
}

std::string Service::model_name() const { return name_of(options_); }

Status Service::run(Signals& signals, const ExpertsHooks& experts) {
  PREGATE_TRY(listen(experts));
  auto loading = std::async(std::launch::async, [&] { return load(experts); });
  while (loading.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    if (signals.wait(kStopPoll)) leave_now("stopped while loading", kExitOk);
  }
  PREGATE_TRY(loading.get());
  api_->serve({.generation = *scheduler_,
               .tokenizer = *tokenizer_,
               .chat_template = chat_template_.get(),
               .max_model_len = static_cast<uint32_t>(runtime_->max_model_len()),
               .vocab_size = runtime_->config().vocab_size,
               .default_sampling = default_sampling(runtime_->config().sampling)});
  loaded_ = true;
  spdlog::info("ready: serving {}", model_name());
  while (!signals.wait(std::chrono::seconds(1))) {
  }
  drain(signals);
  return {};
}

Result<coordinator::ApiConfig> Service::api_config(const ExpertsHooks& experts) const {
  coordinator::ApiConfig config{.served_names = {model_name()}, .api_keys = {}};
  if (!options_.http.api_key.empty()) config.api_keys.push_back(options_.http.api_key);
  if (!options_.http.api_key_file.empty()) {
    PREGATE_ASSIGN(const auto keys, coordinator::read_api_keys(options_.http.api_key_file));
    std::ranges::copy(keys, std::back_inserter(config.api_keys));
  }
  config.admin.hooks = experts.admin;
  config.live = [this, &experts] { return live(experts); };
  if (!options_.admin.key_file.empty()) {
    PREGATE_ASSIGN(config.admin.keys,
                   coordinator::read_api_keys(options_.admin.key_file, "--admin-key-file"));
  }
  return config;
}

Status Service::listen(const ExpertsHooks& experts) {
  ApiOptions options;
  options.http.address = options_.http.host;
  options.http.port = static_cast<uint16_t>(options_.http.port);
  PREGATE_ASSIGN(options.api, api_config(experts));
  coordinator::StatusHooks hooks{.readiness = [this, &experts] { return readiness(experts); },
                                 .scrape = [this] { return registry_.scrape(); },
                                 .version = kVersion};
  api_ =
      std::make_unique<coordinator::ApiServer>(std::move(options), std::move(hooks), &http_probe_);
  PREGATE_ASSIGN(const uint16_t port, api_->start());
  spdlog::info("listening on http://{}:{}", options_.http.host, port);
  return {};
}

Status Service::load(const ExpertsHooks& experts) {
  const TimePoint begin = system_clock().now();
  PREGATE_TRY(load_text());
  RuntimeOptions options = runtime_options(options_.model, options_.batching);
  options.make_lookahead = measured_lookahead(options_.lookahead, registry_);
  PREGATE_ASSIGN(runtime_, ModelRuntime::load(options, experts.connect, progress()));
  rows_ = std::make_unique<RecentRows>(coordinator::placement_shape(runtime_->config()));
  observe_routing(experts);
  start_scheduler(experts);
  const Duration took = system_clock().now() - begin;
  start_probe_.phase_finished("model", took);
  spdlog::info("loaded in {:.1f} s; experts {}", to_seconds(took), options_.workers_as);
  return {};
}

Status Service::load_text() {
  PREGATE_ASSIGN(tokenizer_, model::Tokenizer::load(options_.model.model));
  auto chat_template = model::ChatTemplate::load(options_.model.model);
  if (chat_template) {
    chat_template_ = std::move(*chat_template);
  } else if (chat_template.error().code == ErrorCode::kNotFound) {
    spdlog::warn("{}: chat requests will be refused", chat_template.error().message);
  } else {
    return fail(chat_template.error());
  }
  return {};
}

json::object Service::describe_model() const {
  const model::ModelConfig& config = runtime_->config();
  return {{"architecture", config.architecture},
          {"layers", config.num_layers()},
          {"hidden_size", config.hidden_size},
          {"vocab_size", config.vocab_size},
          {"experts", config.num_experts},
          {"experts_per_token", config.top_k},
          {"shared_expert", has_shared_expert(config)},
          {"context_tokens", runtime_->max_model_len()},
          {"weights", name_of(options_.model.weights)},
          {"chat", chat_template_ != nullptr}};
}

json::object Service::describe_limits() const {
  const BatchingOptions& batching = options_.batching;
  return {{"running", batching.max_num_seqs},
          {"waiting", batching.max_queue},
          {"step_tokens", batching.max_num_batched_tokens},
          {"kv_cache_tokens", runtime_->num_kv_blocks() * compute::kKvBlockTokens},
          {"batch_policy", std::string(to_string(batching.policy))}};
}

// While the model loads there is the cluster, if anything.
json::object Service::live(const ExpertsHooks& experts) const {
  const TimePoint now = system_clock().now();
  const bool loaded = loaded_;
  json::object body;
  if (loaded) {
    body = describe_figures(serving_probe_.figures());
    body["limits"] = describe_limits();
    body["experts"] = rows_->describe(now);
  }
  body["name"] = model_name();
  body["model"] = loaded ? json::value(describe_model()) : json::value(nullptr);
  body["seconds"] = std::round(to_seconds(now - started_) * 1e3) / 1e3;
  body["cluster"] =
      experts.cluster ? json::value(describe_members(experts.cluster(), now)) : nullptr;
  return body;
}

void Service::observe_routing(const ExpertsHooks& experts) {
  runtime_->engine().set_routing_observer(
      [this, observe = experts.observe,
       rows = std::vector<uint64_t>(runtime_->config().num_experts)](
          LayerIdx layer, const router::Decisions& decisions) mutable {
        if (observe) observe(layer, decisions);
        rows.assign(rows.size(), 0);
        for (const ExpertId expert : decisions.expert_ids) ++rows.at(expert.value);
        rows_->add(layer, rows);
        const auto num_idle = std::ranges::count(rows, uint64_t{0});
        serving_probe_.layer_routed(rows.size() - static_cast<uint64_t>(num_idle));
      });
}

void Service::start_scheduler(const ExpertsHooks& experts) {
  const model::ModelConfig& config = runtime_->config();
  const BatchingOptions& batching = options_.batching;
  serving_probe_.set_batch_policy(std::string(to_string(batching.policy)));
  serving_probe_.set_cache_config(compute::kKvBlockTokens, runtime_->num_kv_blocks());
  // With dynamic rotary scaling a key depends on the length of its sequence: it cannot be shared.
  const bool shareable = config.rope.type != model::RopeType::kDynamic;
  scheduler_ = std::make_unique<coordinator::Scheduler>(
      runtime_->engine(), runtime_->threads(),
      coordinator::TextRules{.tokenizer = tokenizer_.get(),
                             .eos_tokens = config.eos_tokens,
                             .vocab_size = std::min(config.vocab_size, tokenizer_->vocab_size()),
                             .max_model_len = runtime_->max_model_len()},
      coordinator::SchedulerOptions{.limits = {.max_step_tokens = batching.max_num_batched_tokens,
                                               .max_sequences = batching.max_num_seqs},
                                    .policy = {.name = batching.policy,
                                               .max_passed_over = batching.max_passed_over,
                                               .expert_load = experts.expert_load},
                                    .num_kv_blocks = runtime_->num_kv_blocks(),
                                    .prefix_caching = !batching.no_prefix_caching && shareable,
                                    .max_queue = batching.max_queue,
                                    .expert_wait = options_.expert_wait},
      serving_probe_, experts.available);
}

void Service::drain(Signals& signals) {
  const auto timeout = options_.http.drain_timeout;
  spdlog::info("stopping: {} requests have {:.1f} s to end", scheduler_->num_unfinished(),
               to_seconds(timeout));
  auto stopping = std::async(std::launch::async, [&] { return api_->stop(timeout); });
  while (stopping.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    if (signals.wait(kStopPoll)) leave_now("stopped at once by a second signal", kExitFailed);
  }
  if (!stopping.get()) spdlog::warn("requests were cut short: --drain-timeout was over");
  scheduler_->stop();
  spdlog::info("stopped");
}

Readiness Service::readiness(const ExpertsHooks& experts) const {
  const Status health = experts.health();
  if (loaded_) {
    return {.ready = health.has_value(), .state = health ? "ready" : health.error().message};
  }
  std::lock_guard lock(state_mutex_);
  if (health) return {.ready = false, .state = state_};
  return {.ready = false,
          .state = fmt::format("{}; waiting for workers: {}", state_, health.error().message)};
}

PhaseProgress Service::progress() {
  return [this](const std::string& phase, size_t done, size_t total) {
    report_progress(phase, done, total);
  };
}

void Service::report_progress(const std::string& phase, size_t done_bytes, size_t total_bytes) {
  show_progress_(phase, done_bytes, total_bytes);
  std::lock_guard lock(state_mutex_);
  state_ = fmt::format("loading {}: {} %", phase,
                       total_bytes == 0 ? 100 : done_bytes * 100 / total_bytes);
}

}  // namespace pregate::cli
