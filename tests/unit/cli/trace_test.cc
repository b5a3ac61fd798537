#include "cli/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scratch_directory.h"

namespace pregate::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

// Layer 2 has 4 experts, one per token.
router::RoutingTrace trace(const std::string& text, std::vector<uint16_t> experts) {
  return {.text = text,
          .num_experts = 4,
          .top_k = 1,
          .layers = {2},
          .tokens = std::vector<TokenId>(experts.size()),
          .starts = {0},
          .experts = experts,
          .gates = std::vector<float>(experts.size(), 1.0f)};
}

TEST(DescribeTraces, SharesAreOfTheTokensOfAllTexts) {
  const std::vector traces{trace("a", {0, 0, 0}), trace("b", {3})};
  const std::string page = describe_traces(traces);
  EXPECT_THAT(page, HasSubstr("2 texts, 4 tokens; 1 layers of 4 experts, 1 per token"));
  EXPECT_THAT(page, HasSubstr("in % (even: 25.0)"));
  EXPECT_THAT(page, HasSubstr("expert 0                 75.0\n"));
  EXPECT_THAT(page, HasSubstr("expert 1                  0.0\n"));
  EXPECT_THAT(page, HasSubstr("expert 3                 25.0\n"));
}

TEST(DescribeTraces, TextsAreComparedWhereThereAreTwo) {
  const std::vector traces{trace("a", {0, 1}), trace("b", {2, 3})};
  EXPECT_THAT(describe_traces(traces), HasSubstr("a                       0.000    1.000\n"));
  EXPECT_THAT(describe_traces(std::span(traces).first(1)), Not(HasSubstr("Jensen-Shannon")));
}

TEST(ReadTraces, ThoseOfAnotherModelAreRefused) {
  const ScratchDirectory directory;
  const auto a = directory.path() / "a.safetensors", b = directory.path() / "b.safetensors";
  ASSERT_TRUE(router::write_trace(a, trace("a", {0, 1})));
  auto other = trace("b", {0, 1});
  other.layers = {3};
  ASSERT_TRUE(router::write_trace(b, other));
  const auto traces = read_traces({a, b});
  ASSERT_FALSE(traces);
  EXPECT_EQ(traces.error().message,
            fmt::format("{}: not of the same model as {}", b.string(), a.string()));
  EXPECT_EQ(read_traces({a, a}).value().size(), 2u);
}

}  // namespace
}  // namespace pregate::cli
