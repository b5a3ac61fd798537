#include "cli/lookahead/real_batches.h"

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "base/random.h"
#include "cli/lookahead/batch_simulation.h"
#include "cli/lookahead/no_text.h"
#include "cli/model_runtime.h"
#include "coordinator/scheduling/scheduler.h"

namespace pregate::cli {
namespace {

using coordinator::BatchPolicyName;

constexpr size_t kNumRequests = 300, kMaxSequences = 64, kMaxStepTokens = 16;
constexpr size_t kMaxPrompt = 40, kMaxAnswer = 60;

/// One policy's run.
class RealRun {
 public:
  Status load(const ModelOptions& model) {
    const auto quiet = [](const std::string&, size_t, size_t) {};
    PREGATE_ASSIGN(runtime_,
                   ModelRuntime::load({.model = model.model,
                                       .weights = model.weights,
                                       .backend = model.backend,
                                       .num_threads = thread_count(model.num_threads),
                                       .kv_cache_bytes = uint64_t{1} << 30,
                                       .max_num_seqs = kMaxSequences,
                                       .preview_experts = true},
                                      ModelRuntime::local_experts(model.weights, quiet), quiet));
    runtime_->engine().set_routing_observer([this](LayerIdx layer, const auto& decisions) {
      if (layer != LayerIdx(0)) return;
      const std::set<ExpertId> experts(decisions.expert_ids.begin(), decisions.expert_ids.end());
      num_experts_.push_back(static_cast<double>(experts.size()));
    });
    return {};
  }

  void run(BatchPolicyName name, uint64_t seed) {
    const coordinator::TextRules rules{.tokenizer = &tokenizer_,
                                       .eos_tokens = {},
                                       .vocab_size = runtime_->config().vocab_size,
                                       .max_model_len = runtime_->max_model_len()};
    coordinator::Scheduler scheduler(
        runtime_->engine(), runtime_->threads(), rules,
        {.limits = {.max_step_tokens = kMaxStepTokens, .max_sequences = kMaxSequences},
         .policy = {.name = name},
         .num_kv_blocks = runtime_->num_kv_blocks(),
         .max_queue = kNumRequests},
        probe_, [] { return Status{}; });
    Random random(seed);
    for (size_t i = 0; i < kNumRequests; ++i) ask(scheduler, random);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ms_per_token_.size() == kNumRequests; });
    fmt::print("{:<14} {:>7} {:>8.2f} {:>9.3f} {:>9.3f}\n", to_string(name), num_experts_.size(),
               mean(num_experts_), mean(ms_per_token_), percentile(ms_per_token_, 0.95));
  }

 private:
  void ask(coordinator::Scheduler& scheduler, Random& random) {
    coordinator::GenerationRequest request{
        .max_tokens = static_cast<uint32_t>(1 + random.next_below(kMaxAnswer)), .ignore_eos = true};
    const size_t num_prompt = 1 + random.next_below(kMaxPrompt);
    for (size_t i = 0; i < num_prompt; ++i) {
      request.prompt.push_back(
          static_cast<TokenId>(random.next_below(runtime_->config().vocab_size)));
    }
    request.sampling.seed = random.next_u64();
    const TimePoint begin = system_clock().now();
    const auto num_tokens = static_cast<double>(request.max_tokens);
    const auto on_chunk = [=, this](const coordinator::GenerationChunk& chunk) {
      if (chunk.finish) end(to_seconds(system_clock().now() - begin) * 1000 / num_tokens);
    };
    const auto on_error = [this](const Error& error) {
      fmt::print(stderr, "{}\n", error.message);
      end(0);
    };
    if (const auto submitted = scheduler.submit(std::move(request), {on_chunk, on_error});
        !submitted) {
      on_error(submitted.error());
    }
  }

  void end(double ms_per_token) {
    std::lock_guard lock(mutex_);
    ms_per_token_.push_back(ms_per_token);
    changed_.notify_all();
  }

  const NoText tokenizer_{2};
  monitoring::Registry registry_;
  monitoring::ServingProbe probe_{registry_, "bench"};
  std::unique_ptr<ModelRuntime> runtime_;
  std::vector<double> num_experts_;  // of each step, in the first layer
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<double> ms_per_token_;  // guarded by mutex_: of the requests that ended
};

}  // namespace

Status print_real_batches(const ModelOptions& model, uint64_t seed) {
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(model.model));
  if (!checkpoint->config().pregate) {
    fmt::print("\nOn the engine: left out, {} has no pre-gating router\n", model.model.string());
    return {};
  }
  fmt::print("\nOn the engine, {}: {} tokens a step, {} sequences, {} requests at once\n",
             model.model.string(), kMaxStepTokens, kMaxSequences, kNumRequests);
  fmt::print("{:<14} {:>7} {:>8} {:>9} {:>9}\n", "policy", "steps", "experts", "ms/token", "p95");
  for (const auto name : {BatchPolicyName::kDecodeFirst, BatchPolicyName::kPrefillFirst,
                          BatchPolicyName::kExpertAware}) {
    RealRun run;
    PREGATE_TRY(run.load(model));
    run.run(name, seed);
  }
  return {};
}

}  // namespace pregate::cli
