#include "coordinator/scheduling/batch_planner.h"

#include <map>

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/unit/scheduling/fake_tokenizer.h"

namespace pregate::coordinator {
namespace {

// Plans steps and plays the engine: every sequence whose tokens are all computed gets an 'a'.
class PlannerHarness {
 public:
  PlannerHarness(BatchLimits limits, size_t num_blocks, bool prefix_caching = true)
      : limits_(limits), pool_(num_blocks, prefix_caching), planner_(limits, pool_) {}

  std::shared_ptr<ActiveRequest> add(size_t num_prompt, uint32_t max_tokens,
                                     uint32_t num_choices = 1) {
    auto request = std::make_shared<ActiveRequest>();
    request->id = RequestId(++last_id_);
    for (size_t i = 0; i < num_prompt; ++i) {
      request->request.prompt.push_back(static_cast<TokenId>((i * last_id_) % 26));
    }
    request->request.max_tokens = max_tokens;
    request->request.num_choices = num_choices;
    request->listener.on_chunk = [this, id = request->id](GenerationChunk chunk) {
      num_tokens_[id] += chunk.tokens.size();
      if (chunk.finish) ++num_finished_[id];
    };
    for (uint32_t c = 0; c < num_choices; ++c) {
      planner_.add(std::make_unique<Sequence>(request, c, rules_, 0));
    }
    return request;
  }

  // What each request computes in the next step.
  std::map<uint64_t, size_t> step() {
    const std::vector<Slice> slices = planner_.plan();
    std::map<uint64_t, size_t> planned;
    size_t total = 0;
    for (const Slice& slice : slices) {
      planned[slice.sequence->request().id.value] += slice.num_tokens;
      total += slice.num_tokens;
      const size_t room = slice.sequence->blocks.blocks().size() * compute::kKvBlockTokens;
      EXPECT_GE(room, slice.sequence->num_computed + slice.num_tokens);
    }
    EXPECT_LE(total, limits_.max_step_tokens);
    EXPECT_LE(planner_.num_running(), limits_.max_sequences);
    const std::vector<float> logits = {1.0f, 0.0f};
    for (const Slice& slice : slices) {
      if (slice.reaches_end()) slice.sequence->append_token(logits);
    }
    planner_.commit(slices);
    for (const Slice& slice : slices) slice.sequence->flush();
    planner_.remove_if([](const Sequence& sequence) { return sequence.finished(); });
    return planned;
  }

  bool idle() const { return planner_.num_running() + planner_.num_waiting() == 0; }
  BatchPlanner& planner() { return planner_; }
  engine::BlockPool& pool() { return pool_; }
  size_t num_tokens(RequestId id) { return num_tokens_[id]; }
  size_t num_finished(RequestId id) { return num_finished_[id]; }

 private:
  const BatchLimits limits_;
  const LetterTokenizer tokenizer_;
  const TextRules rules_{&tokenizer_, {}, 2, 1000};
  engine::BlockPool pool_;
  BatchPlanner planner_;
  uint64_t last_id_ = 0;
  std::map<RequestId, size_t> num_tokens_, num_finished_;
};

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

// Random load on a cache much too small: everything ends, with every token once, and no block is
// lost.
TEST(BatchPlanner, NothingIsLostUnderRandomLoad) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const size_t num_blocks = 4 + random.next_below(12);
    PlannerHarness harness(
        {.max_step_tokens = 4 + random.next_below(60), .max_sequences = 1 + random.next_below(8)},
        num_blocks, random.next_below(2) == 0);
    std::map<RequestId, size_t> expected;
    size_t steps = 0;
    for (size_t left = 20; left > 0 || !harness.idle(); ++steps) {
      ASSERT_LT(steps, 20000u) << "seed " << seed;
      if (left > 0 && random.next_below(3) == 0) {
        const size_t num_prompt = 1 + random.next_below(40);
        const auto max_tokens = static_cast<uint32_t>(1 + random.next_below(24));
        const auto num_choices = static_cast<uint32_t>(1 + random.next_below(3));
        const auto request = harness.add(num_prompt, max_tokens, num_choices);
        expected[request->id] = max_tokens * num_choices;
        --left;
      }
      const bool something_to_do = !harness.idle();
      ASSERT_EQ(!harness.step().empty(), something_to_do) << "seed " << seed;
    }
    for (const auto& [id, num_tokens] : expected) ASSERT_EQ(harness.num_tokens(id), num_tokens);
    ASSERT_EQ(harness.pool().num_free(), num_blocks) << "seed " << seed;
  }
}

}  // namespace
}  // namespace pregate::coordinator
