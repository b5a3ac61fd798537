// Steps in which experts are missing, and which of their logits a step gives.
#include "engine/engine.h"

#include <algorithm>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/cuda/backend.h"
#include "tests/golden/golden_data.h"
#include "tests/support/backends.h"
#include "tests/support/fake_device.h"
#include "tests/support/losable_experts.h"
#include "tests/support/tiny_model.h"

namespace pregate::engine {
namespace {

using test_support::LosableExperts;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Logits by sequence and row.
using Logits = std::map<std::pair<size_t, size_t>, std::vector<float>>;

struct Prompt {
  std::vector<TokenId> tokens;
  std::vector<uint32_t> blocks;
};

/// With rows in host memory, and in a device's where the host cannot touch them.
class EngineTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    test_support::write_tiny_model(directory_.path() / "model", "qwen3_moe");
    const auto no_progress = [](const std::string&, size_t, size_t) {};
    const auto local = cli::ModelRuntime::local_experts(compute::WeightFormat::kF32, no_progress);
    const auto connect =
        [&](auto checkpoint,
            compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
      PREGATE_ASSIGN(auto experts, local(checkpoint, backend));
      auto losable = std::make_unique<LosableExperts>(std::move(experts), losses_, backend);
      experts_ = losable.get();
      return losable;
    };
    auto runtime = cli::ModelRuntime::load(options(), connect, no_progress);
    ASSERT_TRUE(runtime.has_value()) << runtime.error().message;
    runtime_ = std::move(*runtime);
    runtime_->engine().set_routing_observer(
        [this](LayerIdx layer, const router::Decisions& decisions) {
          for (size_t i = 0; i < decisions.expert_ids.size(); ++i) {
            needed_[layer.value][i / decisions.top_k].push_back(decisions.expert_ids[i]);
          }
        });
    for (uint32_t i = 0; i < kNumPrompts; ++i) prompts_.push_back(make_prompt(i));
  }

  cli::RuntimeOptions options() const {
    return {.model = directory_.path() / "model",
            .weights = compute::WeightFormat::kF32,
            .kv_dtype = compute::DType::kF32,
            .backend = GetParam(),
            .make_backend = test_support::make_backend,
            .kv_cache_bytes = 64 << 20};
  }

  /// Three tokens, then two, ...: lengths differ, so that rows which are mixed up show.
  static Prompt make_prompt(uint32_t index) {
    Random random(index);
    Prompt prompt{.tokens = {}, .blocks = {index}};
    for (size_t i = 0; i < 1 + (index + 2) % 3; ++i) {
      prompt.tokens.push_back(static_cast<TokenId>(random.next_below(256)));
    }
    return prompt;
  }

  std::vector<StepSequence> sequences() const {
    std::vector<StepSequence> sequences;
    for (const Prompt& prompt : prompts_) {
      sequences.push_back({.tokens = prompt.tokens,
                           .length_tokens = prompt.tokens.size(),
                           .blocks = prompt.blocks,
                           .logits = LogitRows::kAll});
    }
    return sequences;
  }

  Result<std::vector<SetAside>> step(const std::vector<StepSequence>& sequences, Logits& logits) {
    needed_.clear();
    experts_->rows_of_dispatches.clear();
    const auto keep = [&](size_t sequence, size_t row, std::span<const float> values) {
      logits[{sequence, row}].assign(values.begin(), values.end());
    };
    return runtime_->engine().step(sequences, each_row(keep));
  }

  static std::vector<size_t> sequences_of(const std::vector<SetAside>& set_aside) {
    std::vector<size_t> sequences;
    for (const SetAside& one : set_aside) sequences.push_back(one.sequence);
    return sequences;
  }

  using Needed = std::map<uint32_t, std::map<size_t, std::vector<ExpertId>>>;  // [layer][row]

  /// The sequences a row of which went through the expert in a step in which all were present.
  std::vector<size_t> who_needs(const Needed& needed, LayerIdx layer, ExpertId expert) const {
    std::vector<size_t> sequences;
    size_t row = 0;
    for (size_t s = 0; s < kNumPrompts; ++s) {
      bool needs = false;
      for (size_t i = 0; i < prompts_[s].tokens.size(); ++i, ++row) {
        needs |= std::ranges::count(needed.at(layer.value).at(row), expert) > 0;
      }
      if (needs) sequences.push_back(s);
    }
    return sequences;
  }

  /// Computes these once more, by themselves.
  void add_logits_of(const std::vector<size_t>& chosen, Logits& logits) {
    std::vector<StepSequence> again;
    for (const size_t s : chosen) again.push_back(sequences()[s]);
    Logits later;
    ASSERT_THAT(step(again, later).value(), IsEmpty());
    for (const auto& [place, values] : later) {
      EXPECT_TRUE(logits.emplace(std::pair(chosen[place.first], place.second), values).second);
    }
  }

  static constexpr uint32_t kNumPrompts = 7;
  test_support::TemporaryDirectory directory_;
  test_support::Losses losses_;
  LosableExperts* experts_ = nullptr;
  std::unique_ptr<cli::ModelRuntime> runtime_;
  std::vector<Prompt> prompts_;
  Needed needed_;  // in the latest step
};

/// For every expert of every layer in turn: who needs it is set aside, the others' logits are what
/// they are otherwise, to the bit; and so are the logits of those set aside once it is back.
TEST_P(EngineTest, WhoNeedsAMissingExpertIsSetAsideAndNobodyElse) {
  Logits undisturbed;
  ASSERT_THAT(step(sequences(), undisturbed).value(), IsEmpty());
  const auto needed = needed_;
  size_t num_mixed = 0;
  for (uint32_t i = 0; i < 2 * 8; ++i) {
    const LayerIdx layer(i / 8);
    const ExpertId expert(i % 8);
    SCOPED_TRACE(fmt::format("layer {} expert {}", layer, expert));
    losses_.lose({layer, expert});
    Logits logits;
    const auto set_aside = step(sequences(), logits);
    ASSERT_TRUE(set_aside) << set_aside.error().message;
    losses_.find_all();
    const std::vector<size_t> found = sequences_of(*set_aside);
    EXPECT_EQ(found, who_needs(needed, layer, expert));
    num_mixed += !found.empty() && found.size() < kNumPrompts;
    for (const SetAside& one : *set_aside) {
      EXPECT_EQ(one.missing.layer, layer);
      EXPECT_THAT(one.missing.experts, ElementsAre(expert));
    }
    add_logits_of(found, logits);
    EXPECT_EQ(logits, undisturbed);
  }
  EXPECT_GE(num_mixed, 8u);
}

/// What was set aside costs nothing any more.
TEST_P(EngineTest, LaterLayersSeeOnlyTheRowsThatAreLeft) {
  losses_.lose({LayerIdx(0), ExpertId(3)});
  Logits logits;
  const auto set_aside = step(sequences(), logits);
  ASSERT_TRUE(set_aside) << set_aside.error().message;
  size_t num_rows = 0, num_left = 0;
  for (const Prompt& prompt : prompts_) num_rows += prompt.tokens.size();
  num_left = num_rows;
  for (const size_t s : sequences_of(*set_aside)) num_left -= prompts_[s].tokens.size();
  EXPECT_LT(num_left, num_rows);
  EXPECT_THAT(experts_->rows_of_dispatches, ElementsAre(num_rows, num_left));
}

TEST_P(EngineTest, AStepOfWhichNothingIsLeftEnds) {
  for (uint32_t id = 0; id < 8; ++id) losses_.lose({LayerIdx(0), ExpertId(id)});
  Logits logits;
  const auto set_aside = step(sequences(), logits);
  ASSERT_TRUE(set_aside) << set_aside.error().message;
  EXPECT_EQ(set_aside->size(), kNumPrompts);
  EXPECT_THAT(logits, IsEmpty());
  EXPECT_EQ(experts_->rows_of_dispatches.size(), 1u);
  // All that a sequence lacks in the layer is named, each expert once and in order.
  const std::vector<ExpertId>& missing = (*set_aside)[0].missing.experts;
  EXPECT_GE(missing.size(), 2u);
  EXPECT_EQ(std::ranges::adjacent_find(missing, std::ranges::greater_equal{}), missing.end());
}

TEST_P(EngineTest, WhoMustHaveAllGetsAnErrorInstead) {
  const auto nobody = [](size_t, size_t, std::span<const float>) {};
  EXPECT_TRUE(runtime_->engine().step_all(sequences(), nobody));
  for (uint32_t id = 0; id < 8; ++id) losses_.lose({LayerIdx(1), ExpertId(id)});
  const Status status = runtime_->engine().step_all(sequences(), nobody);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("of layer 1"));
}

/// Whether experts are asked layer by layer, or the step runs unattended.
TEST_P(EngineTest, WhoAsksForExpertsChangesNoLogit) {
  Logits asked, here;
  ASSERT_THAT(step(sequences(), asked).value(), IsEmpty());
  const auto quiet = [](const std::string&, size_t, size_t) {};
  const auto whole =
      cli::ModelRuntime::load(
          options(), cli::ModelRuntime::local_experts(compute::WeightFormat::kF32, quiet), quiet)
          .value();
  const auto keep = [&](size_t sequence, size_t row, std::span<const float> values) {
    here[{sequence, row}].assign(values.begin(), values.end());
  };
  ASSERT_TRUE(whole->engine().step_all(sequences(), keep));
  EXPECT_EQ(asked, here);
}

class EngineDrawTest : public EngineTest {
 protected:
  /// Enough that rows with logits, and those with a token alone, are made in several pieces.
  void SetUp() override {
    EngineTest::SetUp();
    for (uint32_t i = kNumPrompts; i < 90; ++i) prompts_.push_back(make_prompt(i));
    ASSERT_THAT(step(sequences(), logits_).value(), IsEmpty());
  }

  static LogitRows asked_by(size_t sequence) {
    constexpr LogitRows kAsked[] = {LogitRows::kTokenOfLast, LogitRows::kAll, LogitRows::kNone,
                                    LogitRows::kTokenOfLast, LogitRows::kLast};
    return kAsked[sequence % std::size(kAsked)];
  }

  /// Every third is greedy, and of every fifth each way of changing logits is used.
  static compute::Draw draw_of(size_t sequence) {
    static constexpr compute::TokenBias kBiases[] = {{7, 2.0f}, {120, 5.0f}, {250, 30.0f}};
    static constexpr compute::SaidToken kSaid[] = {{250, 3}, {0, 0}, {90, 1}};
    static constexpr uint32_t kForbidden[] = {120, 33};
    compute::Draw draw{.temperature = static_cast<float>(sequence % 3),
                       .top_k = static_cast<uint32_t>(sequence % 20),
                       .top_p = 0.9f,
                       .place = 0.01 * static_cast<double>(sequence % 100)};
    if (sequence % 5 == 0) draw.changes = {kBiases, kSaid, {1.2f, 0.3f, 0.1f}, kForbidden};
    return draw;
  }

  /// Of those that are not left out, by sequence and row.
  std::set<std::pair<size_t, size_t>> rows_asked(const std::set<size_t>& left_out) const {
    std::set<std::pair<size_t, size_t>> rows;
    for (size_t s = 0; s < prompts_.size(); ++s) {
      if (asked_by(s) == LogitRows::kNone || left_out.contains(s)) continue;
      const size_t end = prompts_[s].tokens.size();
      for (size_t row = asked_by(s) == LogitRows::kAll ? 0 : end - 1; row < end; ++row) {
        rows.emplace(s, row);
      }
    }
    return rows;
  }

  void expect_row(const LogitRow& row, size_t num_choosable) const {
    const std::vector<float>& logits = logits_.at({row.sequence, row.row});
    if (asked_by(row.sequence) == LogitRows::kTokenOfLast) {
      const auto choosable = std::span(logits).first(num_choosable);
      EXPECT_EQ(row.token, static_cast<TokenId>(compute::draw(choosable, draw_of(row.sequence))));
      EXPECT_THAT(row.logits, IsEmpty());
    } else {
      EXPECT_TRUE(std::ranges::equal(row.logits, logits));
    }
  }

  /// A step in which all ask for what they do, against the logits of a step that made all. Returns
  /// how many were set aside.
  size_t expect_what_is_asked(size_t num_choosable) {
    std::vector<StepSequence> mixed = sequences();
    for (size_t s = 0; s < mixed.size(); ++s) {
      mixed[s].logits = asked_by(s);
      mixed[s].draw = draw_of(s);
    }
    std::set<std::pair<size_t, size_t>> seen;
    const auto visit = [&](std::span<const LogitRow> rows) {
      for (const LogitRow& row : rows) {
        SCOPED_TRACE(fmt::format("sequence {} row {}", row.sequence, row.row));
        expect_row(row, num_choosable);
        EXPECT_TRUE(seen.emplace(row.sequence, row.row).second);
      }
    };
    const auto left_out = sequences_of(runtime_->engine().step(mixed, visit).value());
    EXPECT_EQ(seen, rows_asked({left_out.begin(), left_out.end()}));
    return left_out.size();
  }

  Logits logits_;
};

TEST_P(EngineDrawTest, EachSequenceGetsWhatItAsksFor) {
  EXPECT_GT(rows_asked({}).size(), 64u);
  EXPECT_EQ(expect_what_is_asked(runtime_->config().vocab_size), 0u);
}

TEST_P(EngineDrawTest, PaddingIsNeverDrawn) {
  for (const size_t num_choosable : {1, 100, 299}) {
    runtime_->engine().choose_among(num_choosable);
    expect_what_is_asked(num_choosable);
  }
}

TEST_P(EngineDrawTest, WhoIsSetAsideGetsNothing) {
  losses_.lose({LayerIdx(0), ExpertId(3)});
  const size_t num_set_aside = expect_what_is_asked(runtime_->config().vocab_size);
  EXPECT_GT(num_set_aside, 0u);
  EXPECT_LT(num_set_aside, prompts_.size() / 2);
}

using compute::cuda::FakeDevice;

std::unique_ptr<cli::ModelRuntime> load_on(const std::shared_ptr<FakeDevice>& device,
                                           const std::filesystem::path& model) {
  const auto make_backend = [&](const std::string& name, ThreadPool& threads) {
    return compute::cuda::CudaBackend::create(device, name, threads);
  };
  const auto quiet = [](const std::string&, size_t, size_t) {};
  return cli::ModelRuntime::load(
             {.model = model, .make_backend = make_backend, .kv_cache_bytes = 8 << 20},
             cli::ModelRuntime::local_experts(compute::WeightFormat::kBf16, quiet), quiet)
      .value();
}

/// Only what is asked for comes to the host.
TEST(EngineOnADevice, LogitsStayThereForWhomATokenIsEnough) {
  const test_support::TemporaryDirectory directory;
  test_support::write_tiny_model(directory.path() / "model", "qwen3_moe");
  const auto device = std::make_shared<FakeDevice>();
  const auto runtime = load_on(device, directory.path() / "model");
  const std::vector<TokenId> tokens = {5, 6, 7};
  const std::vector<uint32_t> blocks[] = {{0}, {1}};
  const auto bytes_of = [&](LogitRows first, LogitRows second) {
    const size_t before = device->downloaded_bytes();
    const StepSequence step[] = {
        {.tokens = tokens, .length_tokens = 3, .blocks = blocks[0], .logits = first},
        {.tokens = tokens, .length_tokens = 3, .blocks = blocks[1], .logits = second}};
    EXPECT_TRUE(runtime->engine().step_all(step, [](size_t, size_t, auto) {}));
    return device->downloaded_bytes() - before;
  };
  using enum LogitRows;
  const size_t none = bytes_of(kNone, kNone), token = bytes_of(kNone, kTokenOfLast) - none;
  const size_t row_bytes = runtime->config().vocab_size * sizeof(float);
  EXPECT_GT(token, 0u);
  EXPECT_LT(token, row_bytes / 2);
  EXPECT_EQ(bytes_of(kTokenOfLast, kTokenOfLast) - none, 2 * token);
  EXPECT_EQ(bytes_of(kTokenOfLast, kLast) - none, token + row_bytes);
  EXPECT_EQ(bytes_of(kAll, kTokenOfLast) - none, token + 3 * row_bytes);
}

/// Of each of so many tokens of a sequence, a step each.
std::vector<std::vector<float>> decode(Engine& engine, TokenId num_tokens) {
  std::vector<std::vector<float>> logits;
  const std::vector<uint32_t> blocks = {0};
  for (TokenId token = 0; token < num_tokens; ++token) {
    const StepSequence step{.tokens = {&token, 1},
                            .first_position = size_t(token),
                            .length_tokens = size_t(token) + 1,
                            .blocks = blocks};
    const auto keep = [&](size_t, size_t, std::span<const float> row) {
      logits.emplace_back(row.begin(), row.end());
    };
    EXPECT_TRUE(engine.step_all({&step, 1}, keep));
  }
  return logits;
}

/// Shared experts with gates, and a layer that is dense: from the third step on all is recorded.
TEST(EngineOnADevice, WhatAllRowsGoThroughIsRecordedToo) {
  constexpr TokenId kTokens = 10;
  const auto model = golden::golden_directory() / "qwen2_dense_window_tied";
  const auto device = std::make_shared<FakeDevice>(), other = std::make_shared<FakeDevice>();
  const auto unattended = load_on(device, model), attended = load_on(other, model);
  size_t num_observed = 0;  // by a host that looks, as it does only in steps that it attends to
  attended->engine().set_mlp_observer([&](LayerIdx, auto) { ++num_observed; });
  EXPECT_EQ(decode(unattended->engine(), kTokens), decode(attended->engine(), kTokens));
  EXPECT_EQ(device->num_replays(), size_t{kTokens} - 2);
  EXPECT_EQ(other->num_replays(), 0u);
  EXPECT_EQ(num_observed, size_t{kTokens});
}

std::string memory_of(const ::testing::TestParamInfo<std::string>& backend) {
  return backend.param == "reference" ? "host" : "device";
}

INSTANTIATE_TEST_SUITE_P(Backends, EngineTest,
                         ::testing::Values("reference", test_support::kFakeCuda), memory_of);
INSTANTIATE_TEST_SUITE_P(Backends, EngineDrawTest,
                         ::testing::Values("reference", test_support::kFakeCuda), memory_of);

}  // namespace
}  // namespace pregate::engine
