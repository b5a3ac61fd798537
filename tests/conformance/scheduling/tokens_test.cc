// The same tokens under every policy, with a pre-gated model; and what the router says before a
// step against what the step decides.

#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "cli/model_runtime.h"
#include "coordinator/scheduling/scheduler.h"
#include "tests/conformance/scheduling/policies.h"
#include "tests/support/losable_experts.h"
#include "tests/unit/scheduling/fake_tokenizer.h"

namespace pregate::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds(60);
constexpr size_t kMaxModelLen = 120;
const std::filesystem::path kModel = PREGATE_SOURCE_DIR "/tests/golden/data/readme_unfused";

void no_progress(const std::string&, size_t, size_t) {}

using Tokens = std::vector<std::vector<TokenId>>;  // per choice

GenerationRequest some_request(uint64_t seed) {
  Random random(seed);
  GenerationRequest request{.num_choices = static_cast<uint32_t>(1 + random.next_below(3)),
                            .max_tokens = static_cast<uint32_t>(1 + random.next_below(30)),
                            .ignore_eos = true};
  const size_t num_prompt = 1 + random.next_below(60);
  for (size_t i = 0; i < num_prompt; ++i) {
    request.prompt.push_back(static_cast<TokenId>(random.next_below(128)));
  }
  request.sampling = {.temperature = random.next_below(2) == 0 ? 0.0f : 1.3f, .seed = seed};
  return request;
}

/// A scheduler over the model, until its end.
class Served {
 public:
  Served(SchedulerOptions options, test_support::Losses& losses) {
    const auto local = cli::ModelRuntime::local_experts(compute::WeightFormat::kBf16, &no_progress);
    const auto connect =
        [&](auto checkpoint,
            compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
      PREGATE_ASSIGN(auto experts, local(checkpoint, backend));
      return std::make_unique<test_support::LosableExperts>(std::move(experts), losses, backend);
    };
    auto runtime = cli::ModelRuntime::load(
        {.model = kModel,
         .backend = "reference",
         .num_threads = 1,
         .kv_cache_bytes = 4 << 20,
         .max_model_len = kMaxModelLen,
         .max_num_seqs = options.limits.max_sequences,
         .preview_experts = options.policy.name == BatchPolicyName::kExpertAware},
        connect, &no_progress);
    PREGATE_CHECK(runtime.has_value());
    runtime_ = std::move(*runtime);
    PREGATE_CHECK(options.num_kv_blocks <= runtime_->num_kv_blocks());
    if (options.num_kv_blocks == 0) options.num_kv_blocks = runtime_->num_kv_blocks();
    const TextRules rules{.tokenizer = &tokenizer_,
                          .eos_tokens = {},
                          .vocab_size = 26,
                          .max_model_len = kMaxModelLen};
    scheduler_ = std::make_unique<Scheduler>(runtime_->engine(), runtime_->threads(), rules,
                                             options, probe_, [] { return Status{}; });
  }

  std::future<Tokens> ask(GenerationRequest request) {
    auto tokens = std::make_shared<Tokens>(request.num_choices);
    auto promise = std::make_shared<std::promise<Tokens>>();
    auto num_open = std::make_shared<size_t>(request.num_choices);
    const auto on_chunk = [=](const GenerationChunk& chunk) {
      for (const auto& token : chunk.tokens) (*tokens)[chunk.choice].push_back(token.token);
      if (chunk.finish && --*num_open == 0) promise->set_value(*tokens);
    };
    const auto on_error = [=](const Error& error) {
      ADD_FAILURE() << error.message;
      promise->set_value({});
    };
    EXPECT_TRUE(scheduler_->submit(std::move(request), {on_chunk, on_error}).has_value());
    return promise->get_future();
  }

 private:
  LetterTokenizer tokenizer_;
  monitoring::Registry registry_;
  monitoring::ServingProbe probe_{registry_, "m"};
  std::unique_ptr<cli::ModelRuntime> runtime_;
  std::unique_ptr<Scheduler> scheduler_;
};

Tokens wait(std::future<Tokens>& answer) {
  if (answer.wait_for(kPatience) == std::future_status::ready) return answer.get();
  ADD_FAILURE() << "no answer";
  return {};
}

std::vector<Tokens> all_at_once(Served& served, const std::vector<GenerationRequest>& requests) {
  std::vector<std::future<Tokens>> pending;
  for (const auto& request : requests) pending.push_back(served.ask(request));
  std::vector<Tokens> answers;
  for (auto& answer : pending) answers.push_back(wait(answer));
  return answers;
}

std::vector<GenerationRequest> some_requests() {
  std::vector<GenerationRequest> requests;
  for (uint64_t seed = 1; seed <= 30; ++seed) requests.push_back(some_request(seed));
  return requests;
}

/// Each alone, in a step of its own.
std::vector<Tokens> tokens_alone(const std::vector<GenerationRequest>& requests) {
  test_support::Losses losses;
  Served served({.limits = {.max_step_tokens = 200, .max_sequences = 8}}, losses);
  std::vector<Tokens> answers;
  for (const auto& request : requests) {
    auto answer = served.ask(request);
    answers.push_back(wait(answer));
  }
  return answers;
}

class PolicyTokens : public ::testing::TestWithParam<BatchPolicyName> {
 protected:
  static SchedulerOptions options(BatchLimits limits, size_t num_kv_blocks) {
    return {.limits = limits,
            .policy = {.name = GetParam(), .max_passed_over = 4},
            .num_kv_blocks = num_kv_blocks};
  }
  const std::vector<GenerationRequest> requests_ = some_requests();
};

TEST_P(PolicyTokens, AreTheSameTogetherAndAlone) {
  test_support::Losses losses;
  Served served(options({.max_step_tokens = 9, .max_sequences = 7}, 0), losses);
  EXPECT_EQ(all_at_once(served, requests_), tokens_alone(requests_));
}

TEST_P(PolicyTokens, AreTheSameWhenTheCacheIsTooSmall) {
  test_support::Losses losses;
  Served served(options({.max_step_tokens = 9, .max_sequences = 7}, 9), losses);
  EXPECT_EQ(all_at_once(served, requests_), tokens_alone(requests_));
}

/// One expert after the other is lost and found, in the middle of the answers.
TEST_P(PolicyTokens, AreTheSameWhenExpertsAreLost) {
  test_support::Losses losses;
  Served served(options({.max_step_tokens = 9, .max_sequences = 7}, 12), losses);
  std::atomic<bool> done{false};
  std::thread loser([&] {
    for (uint32_t i = 0; !done; ++i) {
      losses.lose({LayerIdx(i % 3), ExpertId(i % 7)});
      std::this_thread::yield();
      losses.find_all();
      std::this_thread::yield();
    }
  });
  const std::vector<Tokens> answers = all_at_once(served, requests_);
  done = true;
  loser.join();
  EXPECT_EQ(answers, tokens_alone(requests_));
}

INSTANTIATE_TEST_SUITE_P(Policies, PolicyTokens, all_policies(), name_of);

}  // namespace
}  // namespace pregate::coordinator
