#include <gmock/gmock.h>

#include "base/random.h"
#include "tests/unit/placement/balancer_fixture.h"

namespace pregate::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::IsEmpty;
using enum Presence;

/// Workers come, fall silent, die, return, leave and are forgotten at random; those that are here
/// load some of what they are to.
class BalancerStory : public BalancerFixture {
 protected:
  void step(Random& random) {
    const auto id = static_cast<uint32_t>(1 + random.next_below(6));
    switch (random.next_below(8)) {
      case 0:
      case 1:
        worker(id, kHere);
        break;
      case 2:
        if (is(id, kHere)) worker(id, kSilent);
        break;
      case 3:
        if (is(id, kSilent) || is(id, kHere)) worker(id, kGone);
        break;
      case 4:
        if (is(id, kHere) && random.next_below(4) == 0) worker(id, kLeaving);
        break;
      case 5:
        if (is(id, kGone) || is(id, kLeaving)) {
          workers_.erase(WorkerId(id));
          held_.erase(WorkerId(id));
        }
        break;
      case 6:
        load_some(random);
        break;
      case 7:
        heat(static_cast<uint32_t>(random.next_below(kNumExperts)));
        break;
    }
  }
  bool is(uint32_t id, Presence presence) const {
    const auto found = workers_.find(WorkerId(id));
    return found != workers_.end() && found->second.presence == presence;
  }
  size_t num_here() const {
    size_t here = 0;
    for (uint32_t id = 1; id <= 6; ++id) here += is(id, kHere) ? 1 : 0;
    return here;
  }
  void load_some(Random& random) {
    if (!state_.target) return;
    for (uint32_t id = 1; id <= 6; ++id) {
      if (!is(id, kHere)) continue;
      for (const auto& expert : wanted(WorkerId(id))) {
        if (random.next_below(2) == 0) held_[WorkerId(id)].insert(expert);
      }
    }
  }
  /// Experts that nobody who answers is to hold.
  size_t num_uncovered() const {
    size_t uncovered = 0;
    for (const LayerIdx layer : shape_.layers) {
      for (uint32_t i = 0; i < kNumExperts; ++i) {
        const auto replicas = state_.target->workers(layer, ExpertId(i));
        uncovered += std::none_of(replicas.begin(), replicas.end(),
                                  [this](WorkerId worker) { return is(worker.value, kHere); });
      }
    }
    return uncovered;
  }
};

TEST_F(BalancerStory, WhoeverIsHereCoversAllAndItComesToRest) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    state_ = {};
    workers_.clear();
    held_.clear();
    loads_.clear();
    options_.replicas = 1 + seed % 3;
    options_.extra_replicas = seed % 2 == 0 ? 0 : 0.2;
    for (int i = 0; i < 60; ++i) {
      step(random);
      after(milliseconds(random.next_below(3000)));
      if (state_.target && num_here() > 0) {
        ASSERT_EQ(num_uncovered(), 0u);
      }
    }
    for (uint32_t id = 2; id <= 6; ++id) {
      if (is(id, kSilent)) worker(id, kGone);
    }
    worker(1, kHere);
    for (int i = 0; i < 40; ++i) {
      after(seconds(1));
      if (state_.target) load();
    }
    EXPECT_THAT(after(seconds(60)), IsEmpty());
    EXPECT_FALSE(state_.moving);
    EXPECT_GE(fewest_replicas(), std::min(options_.replicas, num_here()));
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace pregate::coordinator
