#include "router/trace.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/checkpoint/safetensors_writer.h"
#include "router/trace_statistics.h"
#include "tests/support/scratch_directory.h"

namespace pregate::router {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;

Decisions decisions(std::vector<uint32_t> experts, std::vector<float> gates) {
  Decisions result{.top_k = 2, .expert_ids = {}, .gates = std::move(gates)};
  for (const uint32_t expert : experts) result.expert_ids.push_back(ExpertId(expert));
  return result;
}

// Two windows of two tokens and one; layers 1 and 3 have 4 experts, 2 of them per token.
RoutingTrace small_trace() {
  TraceRecorder recorder({1, 3}, 4, 2);
  recorder.begin_window(std::vector<TokenId>{10, 11});
  recorder.record(LayerIdx(1), decisions({0, 1, 1, 2}, {0.75f, 0.25f, 0.5f, 0.5f}));
  recorder.record(LayerIdx(3), decisions({3, 2, 3, 2}, {1.0f, 0.0f, 1.0f, 0.0f}));
  recorder.begin_window(std::vector<TokenId>{10});
  recorder.record(LayerIdx(1), decisions({2, 3}, {0.5f, 0.25f}));
  recorder.record(LayerIdx(3), decisions({3, 0}, {0.5f, 0.25f}));
  return recorder.trace();
}

TEST(RoutingTrace, KeepsDecisionsByTokenAndLayer) {
  const RoutingTrace trace = small_trace();
  EXPECT_THAT(trace.tokens, ElementsAre(10, 11, 10));
  EXPECT_THAT(trace.starts, ElementsAre(0, 2));
  EXPECT_THAT(trace.experts_of(1, 0), ElementsAre(1, 2));
  EXPECT_THAT(trace.experts_of(1, 1), ElementsAre(3, 2));
  EXPECT_THAT(trace.experts_of(2, 1), ElementsAre(3, 0));
  EXPECT_THAT(tokens_per_expert(trace), ElementsAre(1, 2, 2, 1, 1, 0, 2, 3));
}

TEST(RoutingTrace, ComesBackFromItsFile) {
  const ScratchDirectory directory;
  const RoutingTrace trace = small_trace();
  const auto path = directory.path() / "small.safetensors";
  ASSERT_TRUE(write_trace(path, trace));
  const auto read = read_trace(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->text, "small");
  EXPECT_EQ(read->num_experts, 4u);
  EXPECT_EQ(read->top_k, 2u);
  EXPECT_EQ(read->layers, trace.layers);
  EXPECT_EQ(read->tokens, trace.tokens);
  EXPECT_EQ(read->starts, trace.starts);
  EXPECT_EQ(read->experts, trace.experts);
  EXPECT_EQ(read->gates, trace.gates);  // all of them f16 numbers
}

TEST(RoutingTrace, WindowsOutOfRangeAreRefused) {
  const ScratchDirectory directory;
  const auto path = directory.path() / "bad.safetensors";
  RoutingTrace trace = small_trace();
  trace.starts = {0, 3};
  ASSERT_TRUE(write_trace(path, trace));
  const auto read = read_trace(path);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("bad.safetensors: starts: expected ascending"));
}

TEST(RoutingTrace, AnyOtherCheckpointIsRefused) {
  const ScratchDirectory directory;
  const auto path = directory.path() / "weights.safetensors";
  std::ofstream(path, std::ios::binary) << model::safetensors_header({}, {});
  const auto read = read_trace(path);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("experts: expected a tensor of 3 dimensions"));
}

TEST(RoutingTrace, ExpertsOutOfRangeAreRefused) {
  const ScratchDirectory directory;
  const auto path = directory.path() / "bad.safetensors";
  ASSERT_TRUE(write_trace(path, small_trace()));
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-48, std::ios::end);  // experts are 24 bytes before the 24 of gates
  file.put('\x04');
  file.close();
  const auto read = read_trace(path);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("experts: expected ids below 4"));
}

TEST(TraceStatistics, BalanceAndLocality) {
  const RoutingTrace trace = small_trace();
  const auto shares = expert_shares(trace, 0);
  EXPECT_THAT(shares, Pointwise(DoubleNear(1e-12), {1 / 6.0, 2 / 6.0, 2 / 6.0, 1 / 6.0}));
  EXPECT_DOUBLE_EQ(imbalance(shares), 4.0 / 3.0);
  // Only token 1 has one before it in its window: it repeats one of two experts, then both.
  EXPECT_DOUBLE_EQ(repeat_rate(trace, 0), 0.5);
  EXPECT_DOUBLE_EQ(repeat_rate(trace, 1), 1.0);
}

TEST(TraceStatistics, DivergenceIsZeroForEqualAndOneForDisjoint) {
  const std::vector<double> left{0.5, 0.5, 0.0, 0.0}, right{0.0, 0.0, 0.25, 0.75};
  EXPECT_DOUBLE_EQ(jensen_shannon_divergence(left, left), 0.0);
  EXPECT_DOUBLE_EQ(jensen_shannon_divergence(left, right), 1.0);
  // By hand: p = (1, 0), q = (1/2, 1/2) have mean (3/4, 1/4).
  EXPECT_NEAR(jensen_shannon_divergence(std::vector{1.0, 0.0}, std::vector{0.5, 0.5}), 0.311278,
              1e-6);
}

}  // namespace
}  // namespace pregate::router
