// What the cluster tells about itself, under the names of the metrics.
#include "cli/cluster_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

using coordinator::JoinRefusal;
using coordinator::Member;
using coordinator::ResendReason;
using coordinator::WorkerState;
using testing::HasSubstr;
using testing::Not;

class ClusterMetricsTest : public testing::Test {
 protected:
  monitoring::Registry registry_;
  monitoring::DispatchProbe dispatch_{registry_, {}};
  ClusterMetrics metrics_{registry_, dispatch_};
};

TEST_F(ClusterMetricsTest, WorkersAreNamed) {
  metrics_.worker_changed({.id = WorkerId(7), .name = "gpu-7", .state = WorkerState::kReady});
  metrics_.request_sent(WorkerId(7), 5, 100);
  metrics_.worker_holds(WorkerId(7), 3, 300);
  metrics_.batch_resent(ResendReason::kQuiet);
  metrics_.join_refused(JoinRefusal::kWrongSecret);
  metrics_.late_reply(WorkerId(7));
  const std::string scrape = registry_.scrape();
  EXPECT_THAT(scrape, HasSubstr("pregate_workers{state=\"ready\"} 1"));
  EXPECT_THAT(scrape, HasSubstr("pregate_worker_up{worker=\"gpu-7\"} 1"));
  EXPECT_THAT(scrape, HasSubstr("pregate_worker_tokens_total{worker=\"gpu-7\"} 5"));
  EXPECT_THAT(scrape, HasSubstr("pregate_worker_experts{worker=\"gpu-7\"} 3"));
  EXPECT_THAT(scrape, HasSubstr("pregate_dispatch_resent_total{reason=\"quiet\"} 1"));
  EXPECT_THAT(scrape, HasSubstr("pregate_join_refusals_total{reason=\"wrong_secret\"} 1"));
  EXPECT_THAT(scrape, HasSubstr("pregate_rebalances_total{outcome=\"stalled\"} 0"));
  EXPECT_THAT(scrape, HasSubstr("pregate_dispatch_late_replies_total 1"));
}

TEST_F(ClusterMetricsTest, SuspectWorkersAreNotUpAndDrainedAndForgottenOnesNotListed) {
  Member member{.id = WorkerId(1), .name = "a", .state = WorkerState::kSuspect};
  metrics_.worker_changed(member);
  EXPECT_THAT(registry_.scrape(), HasSubstr("pregate_worker_up{worker=\"a\"} 0"));
  // Its experts were moved before it went: nobody is to be alarmed.
  member.state = WorkerState::kDead;
  member.before = WorkerState::kDraining;
  metrics_.worker_changed(member);
  EXPECT_THAT(registry_.scrape(), Not(HasSubstr("pregate_worker_up{")));
  metrics_.request_sent(WorkerId(1), 1, 1);
  metrics_.worker_forgotten(WorkerId(1));
  EXPECT_THAT(registry_.scrape(), Not(HasSubstr("worker=\"a\"")));
}

}  // namespace
}  // namespace pregate::cli
