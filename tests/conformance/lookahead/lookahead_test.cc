// What every source of look-ahead must keep to, over steps of made-up sequences: prompts in one or
// several steps, decode, sequences that end, begin and drop out, on models of several shapes.
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "router/lookahead/metered_lookahead.h"
#include "router/lookahead/sources.h"
#include "router/trace.h"
#include "tests/support/scratch_directory.h"
#include "tests/support/step_rows.h"

namespace pregate::router {
namespace {

using testing::IsEmpty;

constexpr size_t kHiddenSize = 8;
constexpr size_t kWindowTokens = 24;
constexpr size_t kNumWindows = 6;

struct Shape {
  std::string name;
  MoeLayers moe;
};

std::vector<Shape> shapes() {
  std::vector<LayerIdx> all;
  for (uint32_t i = 0; i < 5; ++i) all.push_back(LayerIdx(i));
  return {{"all", {5, all, 8, 2}},
          {"some", {6, {LayerIdx(1), LayerIdx(2), LayerIdx(4)}, 70, 3}},
          {"one", {3, {LayerIdx(1)}, 4, 4}}};
}

/// The experts of a token depend on all tokens up to it, as those of a model do.
Decisions decide(const MoeLayers& moe, LayerIdx layer, std::span<const TokenId> tokens) {
  Decisions decisions{.top_k = moe.top_k, .expert_ids = {}, .gates = {}};
  uint64_t seen = layer.value;
  for (const TokenId token : tokens) {
    seen = 1000003 * seen + static_cast<uint64_t>(token) + 1;
    const auto first = static_cast<uint32_t>(Random(seen).next_below(moe.num_experts));
    for (uint32_t k = 0; k < moe.top_k; ++k) {
      decisions.expert_ids.emplace_back((first + k) % moe.num_experts);
    }
  }
  decisions.gates.assign(decisions.expert_ids.size(), 1.0f);
  return decisions;
}

/// A text of several windows and where each of its tokens goes.
RoutingTrace make_trace(const MoeLayers& moe) {
  std::vector<uint32_t> layers;
  for (const LayerIdx layer : moe.layers) layers.push_back(layer.value);
  TraceRecorder recorder(layers, moe.num_experts, moe.top_k);
  Random random(7);
  for (size_t window = 0; window < kNumWindows; ++window) {
    std::vector<TokenId> tokens{0};
    while (tokens.size() < kWindowTokens) {
      tokens.push_back(static_cast<TokenId>(random.next_below(50)));
    }
    recorder.begin_window(tokens);
    for (const LayerIdx layer : moe.layers) recorder.record(layer, decide(moe, layer, tokens));
  }
  return recorder.trace();
}

/// Plays a trace as an engine would, and is the router of its steps.
class Player final : public Router {
 public:
  Player(const MoeLayers& moe, const RoutingTrace& trace, bool decides_ahead)
      : moe_(moe), trace_(trace), decides_ahead_(decides_ahead) {}

  Horizon horizon() const override { return decides_ahead_ ? Horizon::kAllLayers : Horizon::kNone; }
  std::span<const ExpertId> decided(LayerIdx layer) const override {
    return decides_ahead_ ? std::span<const ExpertId>(experts_.at(layer.value))
                          : std::span<const ExpertId>();
  }
  void route(LayerIdx layer, compute::Matrix<const float>, Decisions& out) override {
    out = {moe_.top_k, experts_.at(layer.value), {}};
    out.gates.assign(out.expert_ids.size(), 1.0f);
  }

  /// Three sequences at most; now and then one of them drops out within the step.
  void play_step(Lookahead& lookahead, LayerTime step,
                 const std::function<void(LayerTime at, bool computed, const Plan&)>& said) {
    choose_rows();
    begin(lookahead, moe_.time_of(step, LayerIdx(0)), said);
    for (uint32_t layer = 0; layer < moe_.num_layers; ++layer) {
      const LayerTime now = moe_.time_of(step, LayerIdx(layer));
      if (std::ranges::count(moe_.layers, LayerIdx(layer)) == 0) continue;
      Decisions decisions;
      route(LayerIdx(layer), {}, decisions);
      std::vector<float> rows(num_rows_ * kHiddenSize);
      for (float& value : rows) value = static_cast<float>(random_.next_normal());
      Plan plan;
      lookahead.routed(LayerIdx(layer), now, {rows.data(), num_rows_, kHiddenSize}, decisions,
                       plan);
      said(now, true, plan);
      if (running_.size() < 2 || random_.next_below(8) > 0 || layer + 1 == moe_.num_layers) {
        continue;
      }
      running_.pop_back();
      begin(lookahead, now + 1, said);
    }
    for (Running& one : running_) one.position += one.count;
    std::erase_if(running_, [](const Running& one) { return one.position == kWindowTokens; });
  }

 private:
  struct Running {
    size_t window = 0;
    uint32_t first_block = 0;
    size_t position = 0, count = 0;
  };

  void choose_rows() {
    while (running_.size() < 3) {
      const auto block = static_cast<uint32_t>(10 * random_.next_below(5));
      const auto taken = [&](const Running& one) { return one.first_block == block; };
      if (std::ranges::any_of(running_, taken)) continue;
      running_.push_back({random_.next_below(kNumWindows), block, 0, 0});
    }
    for (Running& one : running_) {
      const size_t wanted = one.position == 0 ? 1 + random_.next_below(9) : 1;
      one.count = std::min(wanted, kWindowTokens - one.position);
    }
  }

  void begin(Lookahead& lookahead, LayerTime now,
             const std::function<void(LayerTime, bool, const Plan&)>& said) {
    rows_ = {};
    experts_.clear();
    for (const Running& one : running_) {
      const size_t first = trace_.starts[one.window] + one.position;
      rows_.add(std::span(trace_.tokens).subspan(first, one.count), one.position, one.first_block);
      for (size_t token = first; token < first + one.count; ++token) {
        for (size_t i = 0; i < moe_.size(); ++i) {
          for (const uint16_t e : trace_.experts_of(token, i)) {
            experts_[moe_.layers[i].value].emplace_back(e);
          }
        }
      }
    }
    num_rows_ = rows_.num_rows();
    Plan plan;
    lookahead.begin_step(rows_.view(), now, plan);
    said(now, false, plan);
  }

  const MoeLayers moe_;
  const RoutingTrace& trace_;
  const bool decides_ahead_;
  Random random_{11};
  std::vector<Running> running_;
  test_support::StepRows rows_;
  size_t num_rows_ = 0;
  std::map<uint32_t, std::vector<ExpertId>> experts_;  // [layer][n * k]
};

class LookaheadConformance : public testing::TestWithParam<std::tuple<std::string, Shape>> {
 protected:
  void SetUp() override {
    trace_ = make_trace(moe_);
    ASSERT_TRUE(write_trace(trace_path_, trace_));
    gates_.resize(moe_.num_layers);
    Random random(3);
    for (const LayerIdx layer : moe_.layers) {
      std::vector<float> weights(moe_.num_experts * kHiddenSize);
      for (float& value : weights) value = static_cast<float>(random.next_normal());
      const compute::SourceMatrix source{reinterpret_cast<const std::byte*>(weights.data()),
                                         compute::DType::kF32, moe_.num_experts, kHiddenSize};
      packed_.push_back(backend_->pack(source, compute::WeightFormat::kF32).value());
      gates_[layer.value] = packed_.back().get();
    }
  }

  std::unique_ptr<Lookahead> make(const Router& router) {
    const std::string& name = std::get<0>(GetParam());
    const LookaheadOptions options{
        .source = name == "replay" ? "replay:" + trace_path_.string() : name, .depth = 2};
    return make_lookahead(options,
                          {.moe = moe_, .backend = *backend_, .router = router, .gates = gates_})
        .value();
  }

  /// A gate of a later layer there must be.
  bool may_speak() const { return std::get<0>(GetParam()) != "next_gate" || moe_.size() > 1; }
  bool decides_ahead() const { return std::get<0>(GetParam()) == "pregate"; }

  const MoeLayers moe_ = std::get<1>(GetParam()).moe;
  const ScratchDirectory directory_;
  const std::filesystem::path trace_path_ = directory_.path() / "trace.safetensors";
  RoutingTrace trace_;
  ThreadPool threads_{1};
  std::unique_ptr<compute::Backend> backend_ = compute::make_backend("reference", threads_).value();
  std::vector<std::unique_ptr<compute::PackedMatrix>> packed_;
  std::vector<const compute::PackedMatrix*> gates_;
};

constexpr LayerTime kNumSteps = 200;

TEST_P(LookaheadConformance, PlansAreInOrderInRangeAndOfTheFuture) {
  Player player(moe_, trace_, decides_ahead());
  const auto lookahead = make(player);
  size_t num_said = 0;
  for (LayerTime step = 1; step <= kNumSteps; ++step) {
    player.play_step(*lookahead, step, [&](LayerTime at, bool computed, const Plan& plan) {
      num_said += plan.size();
      for (size_t i = 0; i < plan.size(); ++i) {
        const auto& [layer, expert, when, certain, likelihood] = plan[i];
        EXPECT_GE(when, computed ? at + 1 : at);
        EXPECT_LT(when, moe_.time_of(step + 2, LayerIdx(0)));
        EXPECT_EQ(when % moe_.num_layers, layer.value);
        EXPECT_TRUE(std::ranges::count(moe_.layers, layer) == 1);
        EXPECT_LT(expert.value, moe_.num_experts);
        EXPECT_GT(likelihood, 0.0f);
        EXPECT_LE(likelihood, 1.0f);
        EXPECT_TRUE(!certain || likelihood == 1.0f);
        if (i == 0) continue;
        EXPECT_GE(when, plan[i - 1].when);
        EXPECT_TRUE(when > plan[i - 1].when || likelihood <= plan[i - 1].likelihood);
      }
    });
  }
  if (may_speak()) {
    EXPECT_GT(num_said, kNumSteps);
  }
}

TEST_P(LookaheadConformance, NothingIsSaidTwice) {
  Player player(moe_, trace_, decides_ahead());
  const auto lookahead = make(player);
  std::set<std::pair<LayerTime, ExpertId>> said;
  for (LayerTime step = 1; step <= kNumSteps; ++step) {
    player.play_step(*lookahead, step, [&](LayerTime, bool, const Plan& plan) {
      for (const PlannedExpert& planned : plan) {
        EXPECT_TRUE(said.emplace(planned.when, planned.expert).second);
      }
    });
  }
}

TEST_P(LookaheadConformance, TheSameStepsGiveTheSamePlans) {
  std::vector<std::vector<std::string>> plans[2];
  for (auto& words : plans) {
    Player player(moe_, trace_, decides_ahead());
    const auto lookahead = make(player);
    for (LayerTime step = 1; step <= kNumSteps; ++step) {
      player.play_step(*lookahead, step, [&](LayerTime, bool, const Plan& plan) {
        words.push_back(test_support::words_of(plan));
      });
    }
  }
  EXPECT_EQ(plans[0], plans[1]);
}

/// What is certain happens, to the expert: but for rows that drop out, nothing else does.
TEST_P(LookaheadConformance, WhatIsCertainIsWhatIsUsed) {
  Player player(moe_, trace_, decides_ahead());
  auto source = make(player);
  bool all_certain = true;
  GuessMeter meter(moe_.num_layers, {});
  Decisions decisions;
  for (LayerTime step = 1; step <= kNumSteps; ++step) {
    player.play_step(*source, step, [&](LayerTime at, bool computed, const Plan& plan) {
      for (const PlannedExpert& planned : plan) all_certain &= planned.certain;
      const LayerIdx layer(static_cast<uint32_t>(at % moe_.num_layers));
      if (computed) {
        player.route(layer, {}, decisions);
        meter.routed(layer, at, decisions);
      }
      meter.guessed(plan);
    });
  }
  const bool exact = decides_ahead() || source->name() == "replay";
  EXPECT_EQ(all_certain, exact || !may_speak());
  EXPECT_TRUE(!exact || meter.all_layers().recall() == 1.0);
}

class DenseConformance : public testing::TestWithParam<std::string> {};

TEST_P(DenseConformance, DenseModelsHaveNone) {
  const MoeLayers dense{3, {}, 0, 0};
  const RoutingTrace trace;
  const Player player(dense, trace, GetParam() == "pregate");
  ThreadPool threads(1);
  const auto backend = compute::make_backend("reference", threads).value();
  const auto made = make_lookahead(
      {.source = GetParam()},
      {.moe = dense, .backend = *backend, .router = player, .gates = {nullptr, nullptr, nullptr}});
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(*made, nullptr);
}

INSTANTIATE_TEST_SUITE_P(Sources, LookaheadConformance,
                         testing::Combine(testing::Values("pregate", "next_gate", "transitions",
                                                          "replay"),
                                          testing::ValuesIn(shapes())),
                         [](const auto& param) {
                           return std::get<0>(param.param) + "_" + std::get<1>(param.param).name;
                         });

INSTANTIATE_TEST_SUITE_P(Sources, DenseConformance,
                         testing::Values("auto", "pregate", "next_gate", "transitions",
                                         "replay:x"));

}  // namespace
}  // namespace pregate::router
