#include "coordinator/scheduling/scheduler.h"

#include <algorithm>
#include <future>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/cuda/backend.h"
#include "engine/local_experts.h"
#include "tests/support/fake_device.h"
#include "tests/support/losable_experts.h"
#include "tests/support/tiny_model.h"

namespace pregate::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kPatience = std::chrono::seconds(60);

/// What one request gave, joined.
struct Answer {
  std::vector<std::vector<TokenId>> tokens;  // per choice
  std::vector<std::string> texts;
  std::vector<GeneratedToken> prompt_tokens;
  size_t num_finished = 0;
  uint32_t num_cached_tokens = 0;
  std::optional<Error> error;
};

class SchedulerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test_support::write_tiny_model(directory_.path() / "model", "qwen3_moe");
    tokenizer_ = *model::Tokenizer::load(directory_.path() / "model");
  }

  void start(SchedulerOptions options) {
    const auto local = cli::ModelRuntime::local_experts(compute::WeightFormat::kBf16,
                                                        [](const std::string&, size_t, size_t) {});
    const auto connect =
        [&](auto checkpoint,
            compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
      PREGATE_ASSIGN(auto experts, local(checkpoint, backend));
      return std::make_unique<test_support::LosableExperts>(std::move(experts), losses_, backend);
    };
    auto runtime = cli::ModelRuntime::load({.model = directory_.path() / "model",
                                            .backend = "reference",
                                            .make_backend = make_backend_,
                                            .num_threads = 1,
                                            .kv_cache_bytes = 64 << 20},
                                           connect, [](const std::string&, size_t, size_t) {});
    ASSERT_TRUE(runtime.has_value()) << runtime.error().message;
    runtime_ = std::move(*runtime);
    const TextRules rules{.tokenizer = tokenizer_.get(),
                          .eos_tokens = runtime_->config().eos_tokens,
                          .vocab_size = num_choosable_,
                          .max_model_len = 400};
    scheduler_ = std::make_unique<Scheduler>(
        runtime_->engine(), runtime_->threads(), rules, options, probe_, [this] {
          return available_ ? Status{} : fail(ErrorCode::kUnavailable, "worker 3 is gone");
        });
  }

  std::future<Answer> ask(GenerationRequest request, RequestId* id = nullptr) {
    const size_t num_choices = request.num_choices;
    auto answer = std::make_shared<Answer>();
    answer->tokens.resize(num_choices);
    answer->texts.resize(num_choices);
    auto promise = std::make_shared<std::promise<Answer>>();
    const auto on_chunk = [=](GenerationChunk chunk) {
      for (const auto& token : chunk.tokens) answer->tokens[chunk.choice].push_back(token.token);
      answer->texts[chunk.choice] += chunk.text;
      if (!chunk.prompt_tokens.empty()) answer->prompt_tokens = chunk.prompt_tokens;
      answer->num_cached_tokens += chunk.num_cached_tokens;
      if (chunk.finish && ++answer->num_finished == num_choices) promise->set_value(*answer);
    };
    const auto on_error = [=](const Error& error) {
      answer->error = error;
      promise->set_value(*answer);
    };
    const auto submitted = scheduler_->submit(std::move(request), {on_chunk, on_error});
    if (!submitted) {
      on_error(submitted.error());
    } else if (id != nullptr) {
      *id = *submitted;
    }
    return promise->get_future();
  }

  static Answer wait(std::future<Answer>& answer) {
    if (answer.wait_for(kPatience) != std::future_status::ready) {
      ADD_FAILURE() << "no answer";
      return {};
    }
    return answer.get();
  }

  static GenerationRequest greedy(size_t num_prompt, uint32_t max_tokens, uint64_t seed = 1) {
    Random random(seed);
    GenerationRequest request{.max_tokens = max_tokens, .ignore_eos = true};
    for (size_t i = 0; i < num_prompt; ++i) {
      request.prompt.push_back(static_cast<TokenId>(random.next_below(256)));
    }
    request.sampling.temperature = 0;
    return request;
  }

  void expect_same_without_logits();

  test_support::TemporaryDirectory directory_;
  test_support::Losses losses_;
  std::atomic<bool> available_{true};
  cli::MakeBackend make_backend_ = compute::make_backend;
  size_t num_choosable_ = 300;
  monitoring::Registry registry_;
  monitoring::ServingProbe probe_{registry_, "tiny"};
  std::unique_ptr<model::Tokenizer> tokenizer_;
  std::unique_ptr<cli::ModelRuntime> runtime_;
  std::unique_ptr<Scheduler> scheduler_;
};

const SchedulerOptions kRoomy{.limits = {.max_step_tokens = 64, .max_sequences = 16},
                              .num_kv_blocks = 200};

// A tiny cache, tiny steps, preemptions: the tokens must be those of each request alone.
TEST_F(SchedulerTest, TogetherAndAloneGiveTheSameTokens) {
  std::vector<GenerationRequest> requests;
  for (uint64_t i = 0; i < 24; ++i) requests.push_back(greedy(1 + i * 5 % 60, 12, i));

  start(kRoomy);
  std::vector<Answer> alone;
  for (const auto& request : requests) {
    auto answer = ask(request);
    alone.push_back(wait(answer));
  }
  scheduler_.reset();
  start({.limits = {.max_step_tokens = 23, .max_sequences = 7}, .num_kv_blocks = 25});
  std::vector<std::future<Answer>> together;
  for (const auto& request : requests) together.push_back(ask(request));
  for (size_t i = 0; i < requests.size(); ++i) {
    const Answer answer = wait(together[i]);
    EXPECT_EQ(answer.tokens, alone[i].tokens) << "request " << i;
    EXPECT_EQ(answer.texts, alone[i].texts) << "request " << i;
  }
  EXPECT_THAT(registry_.scrape(), HasSubstr("vllm:num_preemptions_total"));
}

TEST_F(SchedulerTest, ChoicesAreSampledApartAndAgainTheSame) {
  start(kRoomy);
  GenerationRequest request = greedy(40, 10);
  request.sampling = {.temperature = 1.5f, .seed = 3};
  request.num_choices = 3;
  auto first = ask(request), second = ask(request);
  const Answer a = wait(first), b = wait(second);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_NE(a.tokens[0], a.tokens[1]);
}

TEST_F(SchedulerTest, ARepeatedPromptComesFromTheCacheAndGivesTheSame) {
  start(kRoomy);
  auto first = ask(greedy(60, 8));
  const Answer computed = wait(first);
  auto second = ask(greedy(60, 8));
  const Answer cached = wait(second);
  EXPECT_EQ(computed.num_cached_tokens, 0u);
  EXPECT_EQ(cached.num_cached_tokens, 48u);
  EXPECT_EQ(cached.tokens, computed.tokens);
}

TEST_F(SchedulerTest, PromptLogprobsCoverThePromptWhateverTheChunks) {
  start({.limits = {.max_step_tokens = 7, .max_sequences = 4}, .num_kv_blocks = 50});
  GenerationRequest request = greedy(30, 0);
  request.prompt_logprobs = 1;
  auto pending = ask(request);
  const Answer answer = wait(pending);
  ASSERT_EQ(answer.prompt_tokens.size(), 30u);
  EXPECT_TRUE(answer.tokens[0].empty());
  for (size_t i = 1; i < 30; ++i) {
    EXPECT_EQ(answer.prompt_tokens[i].token, request.prompt[i]);
    EXPECT_LT(answer.prompt_tokens[i].logprob, 0.0f);
    ASSERT_EQ(answer.prompt_tokens[i].top.size(), 1u);
    EXPECT_GE(answer.prompt_tokens[i].top[0].logprob, answer.prompt_tokens[i].logprob);
  }
}

/// Greedy and not, with and without each way of changing logits.
GenerationRequest with_changes(GenerationRequest request, uint64_t i) {
  engine::SamplingParams& params = request.sampling;
  params.temperature = 0.75f * static_cast<float>(i % 3);
  params.seed = i;
  if (i & 1) params.repetition_penalty = 1.3f;
  if (i & 2) params.frequency_penalty = 0.4f, params.presence_penalty = -0.2f;
  if (i & 4) params.logit_bias = {{3, 2.5f}, {11, -100.0f}, {200, 3.0f}};
  if (i & 8) {
    request.min_tokens = request.max_tokens;
    for (TokenId token = 0; token < 10; ++token) request.stop_token_ids.push_back(token);
  }
  return request;
}

void SchedulerTest::expect_same_without_logits() {
  constexpr uint32_t kNumTokens = 12;
  std::vector<std::future<Answer>> from_engine, from_logits;
  for (uint64_t i = 0; i < 18; ++i) {
    GenerationRequest request = with_changes(greedy(10 + i, kNumTokens, i), i);
    from_engine.push_back(ask(request));
    request.sampling.logprobs = 0;
    from_logits.push_back(ask(std::move(request)));
  }
  for (size_t i = 0; i < from_engine.size(); ++i) {
    SCOPED_TRACE(i);
    const Answer answer = wait(from_engine[i]), with_logits = wait(from_logits[i]);
    EXPECT_EQ(answer.tokens, with_logits.tokens);
    EXPECT_EQ(answer.texts, with_logits.texts);
    EXPECT_EQ(answer.tokens[0].size(), kNumTokens);
    EXPECT_LT(std::ranges::max(answer.tokens[0]), static_cast<TokenId>(num_choosable_));
  }
}

/// A request whose tokens are drawn from logits gives those that the engine draws; alone and
/// together; also where the largest of all logits is one of padding.
TEST_F(SchedulerTest, TokensAreTheSameWithAndWithoutLogits) {
  for (const size_t num_choosable : {300, 20}) {
    num_choosable_ = num_choosable;
    start(kRoomy);
    expect_same_without_logits();
    scheduler_.reset();
  }
}

class SchedulerOnADevice : public SchedulerTest {
 protected:
  static constexpr uint32_t kNumTokens = 4;

  void SetUp() override {
    SchedulerTest::SetUp();
    make_backend_ = [this](const std::string& name, ThreadPool& threads) {
      return compute::cuda::CudaBackend::create(device_, name, threads);
    };
    start(kRoomy);
    const size_t largest = bytes_of(greedy(5, kNumTokens));
    row_bytes_ = runtime_->config().vocab_size * sizeof(float);
    GenerationRequest request = greedy(5, kNumTokens);
    request.sampling.logprobs = 0;
    saved_bytes_ = (bytes_of(request) - largest) / kNumTokens;
    bytes_of_largest_ = largest;
    ASSERT_GT(saved_bytes_, row_bytes_ / 2);
    ASSERT_LT(saved_bytes_, row_bytes_);
  }

  /// That come to the host until the answer is complete.
  size_t bytes_of(GenerationRequest request) {
    const size_t before = device_->downloaded_bytes();
    auto pending = ask(std::move(request));
    const Answer answer = wait(pending);
    EXPECT_EQ(answer.tokens[0].size(), kNumTokens);
    return device_->downloaded_bytes() - before;
  }

  /// The tokens of this request for which logits come to the host.
  size_t tokens_from_logits(const GenerationRequest& request) {
    return (bytes_of(request) - bytes_of_largest_) / saved_bytes_;
  }

  const std::shared_ptr<compute::cuda::FakeDevice> device_ =
      std::make_shared<compute::cuda::FakeDevice>();
  size_t row_bytes_ = 0, bytes_of_largest_ = 0, saved_bytes_ = 0;
};

TEST_F(SchedulerOnADevice, TokensAreTheSameWithAndWithoutLogits) { expect_same_without_logits(); }

TEST_F(SchedulerOnADevice, SamplingAsksForLogitsIfItReportsThem) {
  const auto asks = [&](const std::function<void(engine::SamplingParams&)>& change) {
    GenerationRequest request = greedy(5, kNumTokens);
    change(request.sampling);
    return tokens_from_logits(request);
  };
  EXPECT_EQ(asks([](auto& p) { p.logprobs = 3; }), kNumTokens);
  EXPECT_EQ(asks([](auto& p) { p.presence_penalty = 1.0f; }), 0u);
  EXPECT_EQ(asks([](auto& p) { p.frequency_penalty = 1.0f; }), 0u);
  EXPECT_EQ(asks([](auto& p) { p.repetition_penalty = 1.5f; }), 0u);
  EXPECT_EQ(asks([](auto& p) { p.logit_bias = {{5, 1.0f}}; }), 0u);
  EXPECT_EQ(asks([](auto&) {}), 0u);
  EXPECT_EQ(asks([](auto& p) { p.top_p = 0.5f, p.top_k = 2, p.min_p = 0.1f, p.seed = 1; }), 0u);
  GenerationRequest drawn = greedy(5, kNumTokens);
  drawn.sampling = {.temperature = 0.5f, .top_p = 0.5f, .top_k = 2};
  EXPECT_LE(bytes_of(drawn), bytes_of_largest_);
}

TEST_F(SchedulerOnADevice, RequestsAskForLogitsIfTheyReportThem) {
  const auto asks = [&](const std::function<void(GenerationRequest&)>& change) {
    GenerationRequest request = greedy(5, kNumTokens);
    change(request);
    return tokens_from_logits(request);
  };
  EXPECT_EQ(asks([](auto& r) { r.min_tokens = 2, r.stop_token_ids = {299}; }), 0u);
  EXPECT_EQ(asks([](auto& r) { r.min_tokens = 2, r.ignore_eos = false; }), 0u);
  EXPECT_EQ(asks([](auto& r) { r.min_tokens = 2; }), 0u);
  EXPECT_EQ(asks([](auto& r) { r.stop_token_ids = {299}, r.stop = {"never"}; }), 0u);
  GenerationRequest all = greedy(5, kNumTokens);
  all.prompt_logprobs = 1;  // The last of five rows gives a token too.
  const size_t bytes = bytes_of(all) - bytes_of_largest_;
  EXPECT_EQ(bytes, 4 * row_bytes_ + saved_bytes_);
}

TEST_F(SchedulerTest, RefusesWhatCannotBe) {
  start(kRoomy);
  const GenerationListener nobody{[](GenerationChunk) {}, [](const Error&) {}};
  EXPECT_EQ(scheduler_->submit({}, nobody).error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(scheduler_->submit(greedy(400, 1), nobody).error().message, HasSubstr("400 tokens"));
  GenerationRequest strange = greedy(3, 1);
  strange.prompt[1] = 300;
  EXPECT_THAT(scheduler_->submit(strange, nobody).error().message, HasSubstr("token id 300"));
  available_ = false;
  EXPECT_EQ(scheduler_->submit(greedy(3, 1), nobody).error().code, ErrorCode::kUnavailable);
}

TEST_F(SchedulerTest, AModelWithoutAPreGatingRouterHasNoExpertAwareBatches) {
  const auto quiet = [](const std::string&, size_t, size_t) {};
  const auto runtime = cli::ModelRuntime::load(
      {.model = directory_.path() / "model",
       .backend = "reference",
       .kv_cache_bytes = 64 << 20,
       .preview_experts = true},
      cli::ModelRuntime::local_experts(compute::WeightFormat::kBf16, quiet), quiet);
  ASSERT_FALSE(runtime.has_value());
  EXPECT_EQ(runtime.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(runtime.error().message, HasSubstr("--batch-policy expert-aware"));
  EXPECT_THAT(runtime.error().message, HasSubstr("pre-gating router"));
}

TEST_F(SchedulerTest, AFullQueueRefuses) {
  SchedulerOptions options = kRoomy;
  options.limits.max_sequences = 1;
  options.max_queue = 3;
  start(options);
  std::vector<std::future<Answer>> answers;
  for (int i = 0; i < 12; ++i) answers.push_back(ask(greedy(20, 20)));
  size_t num_refused = 0;
  for (auto& pending : answers) {
    const Answer answer = wait(pending);
    if (!answer.error) continue;
    EXPECT_EQ(answer.error->code, ErrorCode::kResourceExhausted);
    ++num_refused;
  }
  EXPECT_GE(num_refused, 1u);
  EXPECT_LE(num_refused, 9u);
}

TEST_F(SchedulerTest, CancelledRequestsEndAndFreeTheirPlace) {
  SchedulerOptions options = kRoomy;
  options.limits.max_sequences = 1;
  start(options);
  RequestId id;
  auto cancelled = ask(greedy(20, 350), &id);
  auto next = ask(greedy(20, 5));
  scheduler_->cancel(id);
  scheduler_->cancel(RequestId(12345));  // unknown: ignored
  EXPECT_EQ(wait(next).tokens[0].size(), 5u);
  // Its listener was dropped without another word.
  EXPECT_THROW(cancelled.get(), std::future_error);
}

TEST_F(SchedulerTest, AFailedStepEndsItsRequestsAndNoOthers) {
  start(kRoomy);
  auto doomed = ask(greedy(20, 300));
  losses_.all_fail = true;
  const Answer answer = wait(doomed);
  ASSERT_TRUE(answer.error.has_value());
  EXPECT_THAT(answer.error->message, HasSubstr("worker 3"));
  losses_.all_fail = false;
  auto next = ask(greedy(20, 5));
  EXPECT_EQ(wait(next).tokens[0].size(), 5u);
}

// Experts that nobody holds for a while.

constexpr uint32_t kNumLayers = 2, kNumExperts = 8;  // of the tiny model

class SchedulerWithoutExperts : public SchedulerTest {
 protected:
  struct Known {
    GenerationRequest request;
    Answer answer;                             // undisturbed
    std::set<test_support::ExpertKey> needed;  // by any of its rows
  };

  Known try_alone(GenerationRequest request) {
    Known known{.request = std::move(request), .answer = {}, .needed = {}};
    runtime_->engine().set_routing_observer(
        [&](LayerIdx layer, const router::Decisions& decisions) {
          for (const ExpertId expert : decisions.expert_ids) known.needed.emplace(layer, expert);
        });
    auto answer = ask(known.request);
    known.answer = wait(answer);
    runtime_->engine().set_routing_observer({});
    return known;
  }

  /// Starts, loses an expert that `long_one` needs, and finds a request that does not.
  void start_and_lose(Duration expert_wait) {
    SchedulerOptions options = kRoomy;
    options.prefix_caching = false;
    options.expert_wait = expert_wait;
    start(options);
    GenerationRequest request = greedy(30, 40);
    request.sampling = {.temperature = 1.0f, .seed = 7, .presence_penalty = 0.5f};
    request.num_choices = 2;
    affected_ = try_alone(request);
    for (uint64_t seed = 0; !lost_; ++seed) {
      ASSERT_LT(seed, 1000u);
      unaffected_ = try_alone(greedy(2, 3, seed));
      for (const auto& expert : affected_.needed) {
        if (!unaffected_.needed.contains(expert)) lost_ = expert;
      }
    }
    losses_.lose(*lost_);
  }

  bool shows_waiting(size_t count) {
    const auto line = fmt::format("pregate_sequences_waiting_for_experts {}\n", count);
    return registry_.scrape().find(line) != std::string::npos;
  }
  void wait_for_gauge(size_t num_waiting) {
    while (!shows_waiting(num_waiting)) std::this_thread::yield();
  }

  Known affected_, unaffected_;
  std::optional<test_support::ExpertKey> lost_;
};

TEST_F(SchedulerWithoutExperts, OthersGoOnAndWhatWaitedIsAnsweredAsIfNothingHadBeen) {
  start_and_lose(kPatience);
  auto waiting = ask(affected_.request);
  wait_for_gauge(1);  // the second choice waits for the prompt
  for (int i = 0; i < 5; ++i) {
    auto other = ask(unaffected_.request);
    EXPECT_EQ(wait(other).tokens, unaffected_.answer.tokens);
  }
  EXPECT_EQ(waiting.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  losses_.find_all();
  const Answer answer = wait(waiting);
  ASSERT_FALSE(answer.error) << answer.error->message;
  EXPECT_EQ(answer.tokens, affected_.answer.tokens);
  EXPECT_EQ(answer.texts, affected_.answer.texts);
  wait_for_gauge(0);
  EXPECT_THAT(registry_.scrape(), HasSubstr("pregate_expert_wait_seconds_count 1\n"));
  EXPECT_THAT(registry_.scrape(), HasSubstr("pregate_requests_lost_total 0\n"));
}

/// Again and again, one expert after the other, in the middle of the answers.
TEST_F(SchedulerWithoutExperts, LossesAnywhereChangeNoToken) {
  start_and_lose(kPatience);
  std::vector<std::future<Answer>> answers;
  for (int i = 0; i < 6; ++i) answers.push_back(ask(affected_.request));
  // One loss is met for sure, however late this thread is.
  while (shows_waiting(0)) std::this_thread::yield();
  losses_.find_all();
  const auto is_left = [](const std::future<Answer>& answer) {
    return answer.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
  };
  for (uint32_t i = 0; i < 5000 && std::ranges::any_of(answers, is_left); ++i) {
    losses_.lose({LayerIdx(i % kNumLayers), ExpertId(i / kNumLayers % kNumExperts)});
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    losses_.find_all();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  for (auto& pending : answers) {
    const Answer answer = wait(pending);
    ASSERT_FALSE(answer.error) << answer.error->message;
    EXPECT_EQ(answer.tokens, affected_.answer.tokens);
    EXPECT_EQ(answer.texts, affected_.answer.texts);
  }
  EXPECT_THAT(registry_.scrape(), Not(HasSubstr("pregate_expert_wait_seconds_count 0\n")));
}

TEST_F(SchedulerWithoutExperts, AfterTheWaitARequestEndsAndNoOther) {
  start_and_lose(std::chrono::milliseconds(300));
  const TimePoint begin = system_clock().now();
  auto waiting = ask(affected_.request);
  // It may have ended when this thread looks.
  const auto has_ended = [&] {
    return waiting.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  };
  while (!shows_waiting(1) && !has_ended()) std::this_thread::yield();
  auto other = ask(unaffected_.request);
  EXPECT_EQ(wait(other).tokens, unaffected_.answer.tokens);
  const Answer answer = wait(waiting);
  EXPECT_GE(system_clock().now() - begin, std::chrono::milliseconds(300));
  ASSERT_TRUE(answer.error.has_value());
  EXPECT_EQ(answer.error->code, ErrorCode::kUnavailable);
  EXPECT_THAT(answer.error->message, HasSubstr("waited "));
  EXPECT_THAT(answer.error->message, HasSubstr(fmt::format("no worker holds expert {} of layer {}",
                                                           lost_->second, lost_->first)));
  wait_for_gauge(0);
  EXPECT_THAT(registry_.scrape(), HasSubstr("pregate_requests_lost_total 1\n"));
}

/// The thread waits too, and sees all that may come.
TEST_F(SchedulerWithoutExperts, WhenAllWaitRequestsStillComeAndGo) {
  start_and_lose(kPatience);
  for (uint32_t id = 0; id < kNumExperts; ++id) losses_.lose({LayerIdx(0), ExpertId(id)});
  RequestId id;
  auto cancelled = ask(affected_.request, &id);
  wait_for_gauge(1);
  auto second = ask(unaffected_.request);
  wait_for_gauge(2);
  const size_t num_dispatches = losses_.num_dispatches;
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(losses_.num_dispatches, num_dispatches);
  scheduler_->cancel(id);
  wait_for_gauge(1);
  EXPECT_THROW(cancelled.get(), std::future_error);
  losses_.find_all();
  EXPECT_EQ(wait(second).tokens, unaffected_.answer.tokens);
  losses_.lose(*lost_);
  auto stopped = ask(affected_.request);
  wait_for_gauge(1);
  scheduler_->stop();
  EXPECT_TRUE(wait(stopped).error.has_value());
}

TEST_F(SchedulerTest, WhatHasEndedIsNotShownAsRunning) {
  start(kRoomy);
  auto answer = ask(greedy(20, 5));
  wait(answer);
  scheduler_->stop();
  const std::string shown = registry_.scrape();
  for (const char* gauge : {"vllm:num_requests_running", "vllm:kv_cache_usage_perc"}) {
    EXPECT_THAT(shown, HasSubstr(fmt::format("{}{{engine=\"0\",model_name=\"tiny\"}} 0\n", gauge)));
  }
}

TEST_F(SchedulerTest, StopEndsWhatRuns) {
  start(kRoomy);
  auto running = ask(greedy(20, 350));
  scheduler_->stop();
  const Answer answer = wait(running);
  EXPECT_TRUE(answer.error.has_value() || answer.num_finished == 1);
  auto late = ask(greedy(3, 1));
  EXPECT_EQ(wait(late).error->code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace pregate::coordinator
