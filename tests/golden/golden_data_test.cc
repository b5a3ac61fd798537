// The checkpoints that transformers wrote can be read whole.
#include "tests/golden/golden_data.h"

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "model/checkpoint/checkpoint.h"
#include "model/weights.h"

namespace pregate::golden {
namespace {

TEST(GoldenData, EveryCaseLoads) {
  ThreadPool threads(1);
  const auto backend = compute::make_backend("reference", threads).value();
  const auto cases = load_golden_cases();
  ASSERT_GE(cases.size(), 18u);
  for (const GoldenCase& golden : cases) {
    SCOPED_TRACE(golden.name);
    const auto checkpoint = model::Checkpoint::open(golden.directory);
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    const model::ModelConfig& config = (*checkpoint)->config();
    const auto format = compute::WeightFormat::kF32;
    const auto backbone = model::load_backbone(*checkpoint, *backend, format, {});
    ASSERT_TRUE(backbone) << backbone.error().message;
    for (uint32_t l = 0; l < config.num_layers(); ++l) {
      for (uint32_t e = 0; config.layers[l].is_moe && e < config.num_experts; ++e) {
        const auto expert =
            model::load_expert(**checkpoint, LayerIdx{l}, ExpertId{e}, *backend, format);
        ASSERT_TRUE(expert) << expert.error().message;
      }
    }
    EXPECT_GE(golden.prompts.size(), 4u);
    for (const GoldenPrompt& prompt : golden.prompts) {
      EXPECT_EQ(prompt.vocab_size, config.vocab_size);
      EXPECT_EQ(prompt.logits.size(), prompt.ids.size() * prompt.vocab_size);
      EXPECT_EQ(prompt.greedy.size(), 32u);
    }
  }
}

}  // namespace
}  // namespace pregate::golden
