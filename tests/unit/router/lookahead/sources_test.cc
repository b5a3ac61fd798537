#include "router/lookahead/sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/trace.h"
#include "tests/support/scratch_directory.h"
#include "tests/support/step_rows.h"

namespace pregate::router {
namespace {

using testing::HasSubstr;

struct SomeRouter final : Router {
  explicit SomeRouter(Horizon horizon) : known(horizon) {}
  Horizon horizon() const override { return known; }
  void route(LayerIdx, compute::Matrix<const float>, Decisions&) override {}
  const Horizon known;
};

class SourcesTest : public testing::Test {
 protected:
  SourcesTest() {
    const std::vector<float> weights(8);
    gate_ =
        backend_
            ->pack({reinterpret_cast<const std::byte*>(weights.data()), compute::DType::kF32, 4, 2},
                   compute::WeightFormat::kF32)
            .value();
  }

  Result<std::unique_ptr<Lookahead>> make(const std::string& source, const Router& router,
                                          const compute::PackedMatrix* gate) {
    return make_lookahead(
        {.source = source},
        {.moe = {1, {LayerIdx(0)}, 4, 1}, .backend = *backend_, .router = router, .gates = {gate}});
  }

  ThreadPool threads_{1};
  std::unique_ptr<compute::Backend> backend_ = compute::make_backend("reference", threads_).value();
  std::unique_ptr<compute::PackedMatrix> gate_;
  const SomeRouter pregating_{Horizon::kAllLayers}, ordinary_{Horizon::kNone};
};

TEST_F(SourcesTest, AutoTakesTheBestThatTheModelHas) {
  EXPECT_EQ(make("auto", pregating_, nullptr).value()->name(), "pregate");
  EXPECT_EQ(make("auto", ordinary_, gate_.get()).value()->name(), "next_gate");
}

TEST_F(SourcesTest, EachIsMadeByItsName) {
  for (const char* name : {"next_gate", "transitions"}) {
    EXPECT_EQ(make(name, ordinary_, gate_.get()).value()->name(), name);
  }
  EXPECT_EQ(make("pregate", pregating_, nullptr).value()->name(), "pregate");
  EXPECT_EQ(make("transitions", pregating_, nullptr).value()->name(), "transitions");
}

TEST_F(SourcesTest, ATraceComesFromItsFile) {
  const ScratchDirectory directory;
  const std::string path = directory.path() / "a.safetensors";
  TraceRecorder recorder({0}, 4, 1);
  recorder.begin_window(std::vector<TokenId>{1});
  recorder.record(LayerIdx(0), test_support::decide(1, {3}));
  ASSERT_TRUE(write_trace(path, recorder.trace()));
  EXPECT_EQ(make("replay:" + path, ordinary_, gate_.get()).value()->name(), "replay");
  const auto missing = make("replay:" + path + "x", ordinary_, gate_.get());
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr(path + "x"));
}

TEST_F(SourcesTest, ThereMayBeNone) {
  EXPECT_EQ(make("none", ordinary_, gate_.get()).value(), nullptr);
  const auto dense = make_lookahead(
      {.source = "auto"},
      {.moe = {2, {}, 0, 0}, .backend = *backend_, .router = ordinary_, .gates = {}});
  EXPECT_EQ(dense.value(), nullptr);
}

TEST_F(SourcesTest, WhatTheModelCannotDoIsSaid) {
  EXPECT_THAT(make("pregate", ordinary_, gate_.get()).error().message, HasSubstr("pregate"));
  EXPECT_THAT(make("next_gate", pregating_, nullptr).error().message, HasSubstr("next_gate"));
}

TEST(Sources, UnknownNamesAreRefusedWithTheKnownOnes) {
  for (const char* known : {"none", "auto", "next_gate", "transitions", "pregate", "replay:a"}) {
    EXPECT_TRUE(check_source(known)) << known;
  }
  for (const char* unknown : {"", "next-gate", "replay:", "replay"}) {
    const Status status = check_source(unknown);
    ASSERT_FALSE(status) << unknown;
    EXPECT_THAT(status.error().message, HasSubstr("transitions, pregate or replay:FILE"));
  }
}

}  // namespace
}  // namespace pregate::router
