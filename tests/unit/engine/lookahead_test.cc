// An engine with look-ahead: what it says to the experts, and that it changes nothing else.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "router/lookahead/metered_lookahead.h"
#include "router/trace.h"
#include "tests/support/losable_experts.h"
#include "tests/support/tiny_model.h"

namespace pregate::engine {
namespace {

using test_support::LosableExperts;
using testing::IsEmpty;

struct Said {
  router::LayerTime now = 0;
  router::Plan plan;
};

/// Writes down what is expected, and what comes.
class Listener final : public ExpertClient {
 public:
  Listener(std::unique_ptr<ExpertClient> experts, size_t num_layers)
      : experts_(std::move(experts)), num_layers_(num_layers) {}

  Result<DispatchTicket> dispatch(const ExpertBatch& batch) override {
    const router::LayerTime now = batch.step * num_layers_ + batch.layer.value;
    for (const ExpertId expert : batch.expert_ids) needed.emplace(now, expert);
    return experts_->dispatch(batch);
  }
  Result<std::vector<HomelessRow>> combine(DispatchTicket ticket,
                                           compute::Matrix<float> out) override {
    return experts_->combine(ticket, out);
  }
  void expect(const router::Plan& plan, router::LayerTime now) override {
    for (const auto& planned : plan) expected.emplace(planned.when, planned.expert);
    said.push_back({now, plan});
  }

  using Needs = std::set<std::pair<router::LayerTime, ExpertId>>;
  Needs needed, expected;
  std::vector<Said> said;

 private:
  const std::unique_ptr<ExpertClient> experts_;
  const size_t num_layers_;
};

/// An engine on a model, which decodes a few sequences greedily.
class Setting {
 public:
  Setting(const std::filesystem::path& model, const std::string& source) {
    const auto quiet = [](const std::string&, size_t, size_t) {};
    const auto local = cli::ModelRuntime::local_experts(compute::WeightFormat::kF32, quiet);
    const auto connect =
        [&](auto checkpoint,
            compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
      PREGATE_ASSIGN(auto experts, local(checkpoint, backend));
      auto losable = std::make_unique<LosableExperts>(std::move(experts), losses, backend);
      auto heard =
          std::make_unique<Listener>(std::move(losable), checkpoint->config().num_layers());
      listener = heard.get();
      return heard;
    };
    const auto make_lookahead = [source](const router::LookaheadParts& parts) {
      return router::make_lookahead({.source = source, .depth = 2}, parts);
    };
    runtime = cli::ModelRuntime::load({.model = model,
                                       .weights = compute::WeightFormat::kF32,
                                       .kv_dtype = compute::DType::kF32,
                                       .backend = "reference",
                                       .kv_cache_bytes = 8 << 20,
                                       .make_lookahead = make_lookahead},
                                      connect, quiet)
                  .value();
    Random random(1);
    for (uint32_t s = 0; s < 3; ++s) {
      for (size_t i = 0; i < 3 + s; ++i) {
        texts[s].push_back(static_cast<TokenId>(random.next_below(runtime->config().vocab_size)));
      }
    }
  }

  /// All tokens that are not computed yet, and one new token each; but for those set aside.
  void step() {
    std::vector<StepSequence> step;
    std::vector<std::vector<uint32_t>> blocks;
    for (uint32_t s = 0; s < 3; ++s) blocks.push_back({2 * s, 2 * s + 1});
    for (size_t s = 0; s < 3; ++s) {
      step.push_back({.tokens = std::span(texts[s]).subspan(num_computed[s]),
                      .first_position = num_computed[s],
                      .length_tokens = texts[s].size(),
                      .blocks = blocks[s]});
    }
    std::map<size_t, TokenId> next;
    const auto aside = runtime->engine().step(
        step, each_row([&](size_t s, size_t, std::span<const float> logits) {
          next[s] = static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
          all_logits.insert(all_logits.end(), logits.begin(), logits.end());
        }));
    ASSERT_TRUE(aside.has_value());
    num_set_aside += aside->size();
    for (const auto& [s, token] : next) {
      num_computed[s] = texts[s].size();
      texts[s].push_back(token);
    }
  }

  test_support::Losses losses;
  Listener* listener = nullptr;
  std::unique_ptr<cli::ModelRuntime> runtime;
  std::vector<TokenId> texts[3];
  size_t num_computed[3] = {};
  std::vector<float> all_logits;
  size_t num_set_aside = 0;
};

void write_trace_of(Setting& setting, const std::filesystem::path& path) {
  const auto& config = setting.runtime->config();
  std::vector<uint32_t> layers(config.num_layers());
  std::iota(layers.begin(), layers.end(), 0u);
  router::TraceRecorder recorder(layers, config.num_experts, config.top_k);
  Engine& engine = setting.runtime->engine();
  engine.set_routing_observer([&](LayerIdx layer, const router::Decisions& decisions) {
    recorder.record(layer, decisions);
  });
  for (uint32_t s = 0; s < 3; ++s) {
    const std::vector<uint32_t> blocks{0, 1};
    const StepSequence whole{
        .tokens = setting.texts[s], .length_tokens = setting.texts[s].size(), .blocks = blocks};
    recorder.begin_window(setting.texts[s]);
    ASSERT_TRUE(engine.step_all({&whole, 1}, [](size_t, size_t, std::span<const float>) {}));
  }
  ASSERT_TRUE(router::write_trace(path, recorder.trace()));
}

/// Source and whether the model's router pre-gates.
class EngineLookahead : public testing::TestWithParam<std::pair<std::string, bool>> {
 protected:
  void SetUp() override {
    if (!GetParam().second) test_support::write_tiny_model(model_, "mixtral");
    if (GetParam().first != "replay") return;
    Setting recorded(model(), "none");
    for (int i = 0; i < kNumSteps; ++i) recorded.step();
    trace_ = directory_.path() / "trace.safetensors";
    write_trace_of(recorded, trace_);
  }

  std::filesystem::path model() const {
    if (!GetParam().second) return model_;
    return std::filesystem::path(PREGATE_SOURCE_DIR) / "tests/golden/data/readme_unfused";
  }
  std::string source() const {
    return trace_.empty() ? GetParam().first : "replay:" + trace_.string();
  }

  static constexpr int kNumSteps = 8;
  test_support::TemporaryDirectory directory_;
  const std::filesystem::path model_ = directory_.path() / "model";
  std::filesystem::path trace_;
};

/// With an expert lost for two steps, so that rows drop out half way.
TEST_P(EngineLookahead, TokensAndLogitsAreTheSameToTheBit) {
  Setting without(model(), "none"), with(model(), source());
  for (int i = 0; i < kNumSteps; ++i) {
    for (Setting* setting : {&without, &with}) {
      if (i == 2) setting->losses.lose({LayerIdx(0), ExpertId(1)});
      if (i == 4) setting->losses.find_all();
      setting->step();
    }
  }
  for (size_t s = 0; s < 3; ++s) EXPECT_EQ(with.texts[s], without.texts[s]);
  EXPECT_EQ(with.all_logits, without.all_logits);
  EXPECT_EQ(with.num_set_aside, without.num_set_aside);
  EXPECT_EQ(with.listener->needed, without.listener->needed);
  EXPECT_THAT(without.listener->said, IsEmpty());
}

TEST_P(EngineLookahead, ExpertsAreToldOfTheFutureOnly) {
  Setting setting(model(), source());
  for (int i = 0; i < kNumSteps; ++i) {
    if (i == 3) setting.losses.lose({LayerIdx(0), ExpertId(1)});
    setting.step();
  }
  ASSERT_FALSE(setting.listener->said.empty());
  router::LayerTime before = 0;
  for (const auto& [now, plan] : setting.listener->said) {
    EXPECT_GE(now, before);
    before = now;
    EXPECT_FALSE(plan.empty());
    for (const auto& planned : plan) EXPECT_GE(planned.when, now);
  }
}

class ExactEngineLookahead : public EngineLookahead {};

TEST_P(ExactEngineLookahead, NamesAllThatIsNeededAndNothingElse) {
  Setting setting(model(), source());
  for (int i = 0; i < kNumSteps; ++i) setting.step();
  EXPECT_EQ(setting.listener->expected, setting.listener->needed);
}

std::string name_of(const testing::TestParamInfo<std::pair<std::string, bool>>& param) {
  return param.param.first + (param.param.second ? "_pregated" : "");
}
INSTANTIATE_TEST_SUITE_P(Sources, EngineLookahead,
                         testing::Values(std::pair("next_gate", false),
                                         std::pair("transitions", false),
                                         std::pair("replay", false), std::pair("transitions", true),
                                         std::pair("replay", true), std::pair("pregate", true)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Sources, ExactEngineLookahead,
                         testing::Values(std::pair("replay", false), std::pair("replay", true),
                                         std::pair("pregate", true)),
                         name_of);

}  // namespace
}  // namespace pregate::engine
