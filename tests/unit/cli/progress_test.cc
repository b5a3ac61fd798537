#include "cli/progress.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class FakeClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  void advance(Duration duration) { now_ += duration; }

 private:
  TimePoint now_ = TimePoint{} + std::chrono::hours(1);
};

class ProgressTest : public testing::Test {
 protected:
  Progress make(bool is_terminal) {
    return {{.is_terminal = is_terminal,
             .draw = [this](std::string_view text) { drawn_.emplace_back(text); },
             .log = [this](std::string_view line) { logged_.emplace_back(line); }},
            clock_};
  }

  FakeClock clock_;
  std::vector<std::string> drawn_;
  std::vector<std::string> logged_;
};

TEST_F(ProgressTest, LogsEachTenthOnce) {
  Progress progress = make(false);
  for (size_t done = 0; done <= 1000; ++done) progress.update("experts", done, 1000);
  EXPECT_EQ(logged_.size(), 10U);
  EXPECT_EQ(logged_.front(), "loading experts: 10 % of 1000 B after 0.0 s");
  EXPECT_EQ(logged_.back(), "loading experts: 100 % of 1000 B after 0.0 s");
  EXPECT_TRUE(drawn_.empty());
}

TEST_F(ProgressTest, LogsNoTenthThatABigStepPassed) {
  Progress progress = make(false);
  progress.update("experts", 0, 2048);
  clock_.advance(std::chrono::milliseconds(1500));
  progress.update("experts", 1024, 2048);
  progress.update("experts", 2048, 2048);
  EXPECT_THAT(logged_, ElementsAre("loading experts: 50 % of 2.0 KiB after 1.5 s",
                                   "loading experts: 100 % of 2.0 KiB after 1.5 s"));
}

TEST_F(ProgressTest, EachPhaseStartsAnew) {
  Progress progress = make(false);
  progress.update("backbone", 10, 10);
  clock_.advance(std::chrono::seconds(2));
  progress.update("experts", 10, 10);
  EXPECT_THAT(logged_, ElementsAre("loading backbone: 100 % of 10 B after 0.0 s",
                                   "loading experts: 100 % of 10 B after 0.0 s"));
}

TEST_F(ProgressTest, DrawsABarAtMostTenTimesASecond) {
  Progress progress = make(true);
  for (size_t step = 0; step < 1000; ++step) {
    progress.update("experts", step, 1000);
    clock_.advance(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(drawn_.size(), 10U);
  EXPECT_TRUE(logged_.empty());
}

TEST_F(ProgressTest, TheBarEndsWithALineEndAndStays) {
  Progress progress = make(true);
  progress.update("experts", 500, 1000);
  progress.update("experts", 1000, 1000);
  progress.update("experts", 1000, 1000);
  ASSERT_EQ(drawn_.size(), 2U);
  EXPECT_THAT(drawn_[0], HasSubstr("[###############...............]  50 % of 1000 B"));
  EXPECT_THAT(drawn_[0], Not(HasSubstr("\n")));
  EXPECT_THAT(drawn_[1], HasSubstr("[##############################] 100 %"));
  EXPECT_TRUE(drawn_[1].ends_with("\n"));
}

TEST_F(ProgressTest, NothingToLoadIsDoneAtOnce) {
  Progress progress = make(false);
  progress.update("experts", 0, 0);
  EXPECT_THAT(logged_, ElementsAre("loading experts: 100 % of 0 B after 0.0 s"));
}

}  // namespace
}  // namespace pregate::cli
