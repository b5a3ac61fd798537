// What a batch planner promises, whatever the policy.

#include <map>

#include <gtest/gtest.h>

#include "tests/conformance/scheduling/policies.h"
#include "tests/support/planner_harness.h"

namespace pregate::coordinator {
namespace {

using test_support::HarnessOptions;
using test_support::PlannerHarness;

constexpr uint32_t kNumExperts = 7;
constexpr size_t kMaxPassedOver = 5;

/// Neighbours often share the expert; now and then nobody knows it.
ExpertId some_expert(const Sequence& sequence, size_t position) {
  return ExpertId(static_cast<uint32_t>(sequence.request().id.value * 5 + position / 4) %
                  kNumExperts);
}

class PlannerConformance : public ::testing::TestWithParam<BatchPolicyName> {
 protected:
  HarnessOptions options(BatchLimits limits, size_t num_blocks) const {
    return {.limits = limits,
            .num_blocks = num_blocks,
            .prefix_caching = false,
            .policy = {.name = GetParam(), .max_passed_over = kMaxPassedOver},
            .expert_of = some_expert};
  }

  static void add_some(PlannerHarness& harness, Random& random) {
    harness.add(1 + random.next_below(40), static_cast<uint32_t>(1 + random.next_below(24)),
                static_cast<uint32_t>(1 + random.next_below(3)));
  }

  static std::vector<Sequence*> running(PlannerHarness& harness) {
    std::vector<Sequence*> sequences;
    harness.planner().for_each([&](Sequence& sequence) { sequences.push_back(&sequence); });
    sequences.resize(harness.planner().num_running());
    return sequences;
  }
};

/// On a cache much too small, with experts that go and come, and choices that share a prompt:
/// everything ends, with every token once, no limit is exceeded, and no block is lost.
TEST_P(PlannerConformance, NothingIsLostUnderRandomLoad) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const size_t num_blocks = 4 + random.next_below(12);
    HarnessOptions made = options(
        {.max_step_tokens = 4 + random.next_below(60), .max_sequences = 1 + random.next_below(8)},
        num_blocks);
    made.prefix_caching = random.next_below(2) == 0;
    if (random.next_below(4) == 0) made.expert_of = {};
    PlannerHarness harness(made);
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
      if (random.next_below(4) == 0) harness.resume_all();
      const bool some_wait = harness.planner().num_set_aside() > 0;
      const bool something_to_do = !harness.idle();
      const bool planned =
          !harness.step([&](const Sequence&) { return random.next_below(5) == 0; }).empty();
      ASSERT_TRUE(planned == something_to_do || (some_wait && !planned)) << "seed " << seed;
    }
    for (const auto& [id, num_tokens] : expected) ASSERT_EQ(harness.num_tokens(id), num_tokens);
    ASSERT_EQ(harness.pool().num_free(), num_blocks) << "seed " << seed;
  }
}

TEST_P(PlannerConformance, TheSameArrivalsGiveTheSameSteps) {
  const auto steps_of = [this](uint64_t seed) {
    Random random(seed);
    PlannerHarness harness(options({.max_step_tokens = 24, .max_sequences = 6}, 14));
    std::vector<std::map<uint64_t, size_t>> steps;
    for (size_t left = 20; left > 0 || !harness.idle();) {
      if (left > 0 && random.next_below(3) == 0) {
        add_some(harness, random);
        --left;
      }
      steps.push_back(harness.step());
    }
    return steps;
  };
  for (uint64_t seed = 0; seed < 20; ++seed) ASSERT_EQ(steps_of(seed), steps_of(seed));
}

/// However small the cache: the one that was admitted first keeps what is computed, and is not
/// passed over for long.
TEST_P(PlannerConformance, TheOldestAlwaysAdvances) {
  const size_t max_sequences = 6;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    PlannerHarness harness(
        options({.max_step_tokens = 12, .max_sequences = max_sequences}, 5 + random.next_below(4)));
    for (size_t left = 20; left > 0 || !harness.idle();) {
      if (left > 0 && random.next_below(3) == 0) {
        add_some(harness, random);
        --left;
      }
      const auto before = running(harness);
      const size_t num_computed = before.empty() ? 0 : before.front()->num_computed;
      const auto slices = harness.plan();
      if (!before.empty()) {
        ASSERT_EQ(running(harness).front(), before.front()) << "seed " << seed;
        ASSERT_EQ(before.front()->num_computed, num_computed) << "seed " << seed;
        const size_t limit =
            GetParam() == BatchPolicyName::kDecodeFirst ? 0 : kMaxPassedOver + max_sequences - 1;
        ASSERT_LE(before.front()->num_passed_over, limit) << "seed " << seed;
      }
      harness.compute(slices);
    }
  }
}

/// With room in the cache, a step has each running sequence at the latest so many steps after the
/// last one. With decode-first that holds where a step has a token for everybody and prompts fit.
TEST_P(PlannerConformance, NobodyWhoRunsIsPassedOverForLong) {
  const bool is_decode_first = GetParam() == BatchPolicyName::kDecodeFirst;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const size_t max_sequences = 1 + random.next_below(30);
    const size_t max_step_tokens =
        is_decode_first ? max_sequences * 41 : 1 + random.next_below(max_sequences + 5);
    const size_t limit = is_decode_first ? 0 : kMaxPassedOver + max_sequences - 1;
    PlannerHarness harness(options({max_step_tokens, max_sequences}, 500));
    for (size_t left = 40; left > 0 || !harness.idle();) {
      while (left > 0 && random.next_below(2) == 0) {
        add_some(harness, random);
        --left;
      }
      const auto slices = harness.plan();
      for (const Sequence* sequence : running(harness)) {
        ASSERT_LE(sequence->num_passed_over, limit) << "seed " << seed;
      }
      harness.compute(slices);
    }
  }
}

/// Who waits and was passed over for so long is admitted before all that came later, or, where it
/// had to wait for another choice's prompt, before all that wait for a shorter time than itself.
TEST_P(PlannerConformance, NobodyWhoWaitsIsOvertakenForEver) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    PlannerHarness harness(options(
        {.max_step_tokens = 1 + random.next_below(40), .max_sequences = 1 + random.next_below(8)},
        500));
    for (size_t left = 60; left > 0 || !harness.idle();) {
      while (left > 0 && random.next_below(2) == 0) {
        add_some(harness, random);
        --left;
      }
      std::map<const Sequence*, size_t> waiting;  // how often they were passed over
      harness.planner().for_each([&](Sequence& sequence) {
        if (sequence.blocks.blocks().empty()) waiting[&sequence] = sequence.num_passed_over;
      });
      const auto slices = harness.plan();
      for (const auto& [admitted, num_passed_over] : waiting) {
        if (admitted->blocks.blocks().empty()) continue;
        for (const auto& [other, others_passed_over] : waiting) {
          if (!other->blocks.blocks().empty() || others_passed_over < kMaxPassedOver) continue;
          ASSERT_TRUE(admitted->comes_before(*other) || num_passed_over >= others_passed_over)
              << "seed " << seed;
        }
      }
      harness.compute(slices);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, PlannerConformance, all_policies(), name_of);

}  // namespace
}  // namespace pregate::coordinator
