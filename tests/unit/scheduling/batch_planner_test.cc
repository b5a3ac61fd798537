#include "coordinator/scheduling/batch_planner.h"

#include <gtest/gtest.h>

#include "tests/support/planner_harness.h"

namespace pregate::coordinator {
namespace {

using test_support::LetterTokenizer;
using test_support::PlannerHarness;
using Planned = std::map<uint64_t, size_t>;

TEST(BatchPlanner, LongPromptsAreComputedInChunksBesideDecodes) {
  PlannerHarness harness({.max_step_tokens = 32, .max_sequences = 8}, 64);
  harness.add(10, 20);
  EXPECT_EQ(harness.step(), (Planned{{1, 10}}));
  harness.add(70, 5);
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {2, 31}}));
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {2, 31}}));
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {2, 8}}));
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {2, 1}}));
}

TEST(BatchPlanner, AdmitsUpToTheSequenceLimitInOrder) {
  PlannerHarness harness({.max_step_tokens = 100, .max_sequences = 2}, 64);
  for (int i = 0; i < 3; ++i) harness.add(5, 3);
  EXPECT_EQ(harness.step(), (Planned{{1, 5}, {2, 5}}));
  harness.step();
  harness.step();
  EXPECT_EQ(harness.step(), (Planned{{3, 5}}));
}

TEST(BatchPlanner, ReusesThePrefixOfAnEarlierRequest) {
  PlannerHarness harness({.max_step_tokens = 100, .max_sequences = 4}, 64);
  const auto first = harness.add(50, 1);
  harness.step();
  auto second = harness.add(50, 1);
  harness.planner().remove_if([&](const Sequence& s) { return s.request().id == second->id; });
  // The same prompt again: three full blocks come from the cache, the rest is computed.
  auto again = std::make_shared<ActiveRequest>(*first);
  again->id = RequestId(9);
  const LetterTokenizer tokenizer;
  const TextRules rules{&tokenizer, {}, 2, 1000};
  harness.planner().add(std::make_unique<Sequence>(again, 0, rules, 0));
  EXPECT_EQ(harness.step(), (Planned{{9, 2}}));
}

TEST(BatchPlanner, FurtherChoicesWaitForThePromptAndShareIt) {
  PlannerHarness harness({.max_step_tokens = 100, .max_sequences = 4}, 64);
  const auto request = harness.add(40, 4, 3);
  EXPECT_EQ(harness.step(), (Planned{{1, 40}}));
  EXPECT_EQ(harness.step(), (Planned{{1, 1 + 8 + 8}}));
  while (!harness.idle()) harness.step();
  EXPECT_EQ(harness.num_tokens(request->id), 12u);
  EXPECT_EQ(harness.num_finished(request->id), 3u);
}

TEST(BatchPlanner, WhenTheCacheIsFullTheLastAdmittedGivesWay) {
  PlannerHarness harness({.max_step_tokens = 64, .max_sequences = 4}, 4, false);
  harness.add(30, 30);
  harness.add(30, 30);
  EXPECT_EQ(harness.step(), (Planned{{1, 30}, {2, 30}}));
  harness.step();
  harness.step();
  EXPECT_EQ(harness.step(), (Planned{{1, 1}}));  // both needed a third block
  EXPECT_EQ(harness.planner().take_counts().num_preemptions, 1u);
  while (!harness.idle()) harness.step();
  EXPECT_EQ(harness.num_tokens(RequestId(1)), 30u);
  EXPECT_EQ(harness.num_tokens(RequestId(2)), 30u);
}

auto is(const std::shared_ptr<ActiveRequest>& request) {
  return [id = request->id](const Sequence& sequence) { return sequence.request().id == id; };
}

TEST(BatchPlanner, WhatIsSetAsideIsOvertakenAndGoesOnWhereItWas) {
  PlannerHarness harness({.max_step_tokens = 40, .max_sequences = 2}, 64, false);
  const auto first = harness.add(70, 3);
  harness.add(10, 20);
  harness.add(5, 2);
  EXPECT_EQ(harness.step(), (Planned{{1, 40}}));
  EXPECT_EQ(harness.step(is(first)), (Planned{{1, 30}, {2, 10}}));
  EXPECT_EQ(harness.planner().num_set_aside(), 1u);
  EXPECT_EQ(harness.num_tokens(first->id), 0u);
  EXPECT_EQ(harness.step(), (Planned{{2, 1}, {3, 5}}));  // its place in the batch is free
  EXPECT_EQ(harness.step(), (Planned{{2, 1}, {3, 1}}));
  harness.resume_all();
  EXPECT_EQ(harness.planner().num_set_aside(), 0u);
  EXPECT_EQ(harness.step(), (Planned{{1, 30}, {2, 1}}));  // the first 40 are still in the cache
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {2, 1}}));
  while (!harness.idle()) harness.step();
  EXPECT_EQ(harness.num_tokens(first->id), 3u);
}

TEST(BatchPlanner, WhenAllAreSetAsideNothingIsPlanned) {
  PlannerHarness harness({.max_step_tokens = 40, .max_sequences = 4}, 64, false);
  const auto request = harness.add(10, 2, 2);
  EXPECT_EQ(harness.step(is(request)), (Planned{{1, 10}}));
  EXPECT_EQ(harness.step(), (Planned{}));
  harness.resume_all();
  EXPECT_EQ(harness.step(), (Planned{{1, 10}}));
  EXPECT_EQ(harness.step(is(request)), (Planned{{1, 1 + 10}}));  // two choices
  EXPECT_EQ(harness.step(), (Planned{}));
  const auto removed = harness.planner().remove_if(is(request));
  EXPECT_EQ(removed.size(), 2u);
  EXPECT_EQ(harness.pool().num_free(), 64u);
}

TEST(BatchPlanner, WhatIsSetAsideGivesItsBlocksToWhoCanGoOn) {
  PlannerHarness harness({.max_step_tokens = 64, .max_sequences = 4}, 4, false);
  const auto first = harness.add(30, 30);
  harness.add(30, 30);
  EXPECT_EQ(harness.step(), (Planned{{1, 30}, {2, 30}}));
  EXPECT_EQ(harness.step(is(first)), (Planned{{1, 1}, {2, 1}}));
  harness.step();
  EXPECT_EQ(harness.step(), (Planned{{2, 1}}));  // needs a third block
  EXPECT_EQ(harness.planner().take_counts().num_preemptions, 1u);
  harness.resume_all();
  while (!harness.idle()) harness.step();
  EXPECT_EQ(harness.num_tokens(RequestId(1)), 30u);
  EXPECT_EQ(harness.num_tokens(RequestId(2)), 30u);
}

}  // namespace
}  // namespace pregate::coordinator
