#include "cli/bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/bench_cost.h"
#include "cli/engine_bench.h"

namespace pregate::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Bench, BatchesAreNumbersWithCommas) {
  EXPECT_THAT(parse_numbers("--batches", "1,4,32").value(), ElementsAre(1, 4, 32));
  EXPECT_THAT(parse_numbers("--batches", "7").value(), ElementsAre(7));
  for (const char* wrong : {"1,x", "0", "1,,2", "-1", "4 "}) {
    const auto batches = parse_numbers("--batches", wrong);
    ASSERT_FALSE(batches.has_value()) << wrong;
    EXPECT_THAT(batches.error().message, HasSubstr("--batches"));
  }
}

TEST(Bench, TheMedianIsByTime) {
  EXPECT_EQ(median_run({{.seconds = 3}, {.seconds = 1}, {.seconds = 2}}).seconds, 2);
}

// One layer of 4 experts of 6 parameters, top-2, around 10 of attention.
TEST(Bench, ATokenCostsItsActiveParametersTwice) {
  const model::ModelConfig config{
      .num_heads = 2, .head_dim = 3, .num_experts = 4, .top_k = 2, .layers = {{}}};
  model::ModelSummary summary;
  summary.parts = {{.part = model::Part::kEmbedding, .parameters = 100, .loaded_bytes = 200},
                   {.part = model::Part::kAttention, .parameters = 10, .loaded_bytes = 20},
                   {.part = model::Part::kExperts, .parameters = 24, .loaded_bytes = 48},
                   {.part = model::Part::kLmHead, .parameters = 100, .loaded_bytes = 200}};
  summary.expert_loaded_bytes = 12;
  const TokenCost cost = token_cost(config, summary);
  EXPECT_EQ(cost.prefill_ops, 2 * (10 + 12));
  EXPECT_EQ(cost.backbone_bytes, 220);
  EXPECT_EQ(cost.expert_bytes, 12);
  EXPECT_EQ(attention_ops(config, 5), 4 * 6 * 5);
}

}  // namespace
}  // namespace pregate::cli
