#include "cli/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

using testing::HasSubstr;

model::ModelConfig small_config() {
  model::ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.vocab_size = 32000;
  config.num_heads = 8;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  config.max_position = 4096;
  config.num_experts = 6;
  config.top_k = 2;
  config.layers = {{.is_moe = false}, {.is_moe = true}, {.is_moe = true}};
  return config;
}

model::ModelSummary small_summary() {
  return {.parts = {{.part = model::Part::kExperts,
                     .parameters = 12'000'000,
                     .checkpoint_bytes = 24 << 20,
                     .loaded_bytes = 12 << 20}},
          .total_parameters = 13'500'000,
          .active_parameters = 2'500'000,
          .backbone_loaded_bytes = 3 << 20,
          .expert_loaded_bytes = 1 << 20,
          .num_routed_experts = 12,
          .kv_bytes_per_token = 1536};
}

TEST(Inspect, ShowsShapeAndParameters) {
  const std::string page = describe_model(small_config(), small_summary(), {});
  EXPECT_THAT(page, HasSubstr("family      MixtralForCausalLM\n"));
  EXPECT_THAT(page, HasSubstr("layers      3, 2 of them with experts\n"));
  EXPECT_THAT(page, HasSubstr("experts     6 per layer, 2 per token\n"));
  EXPECT_THAT(page, HasSubstr("parameters  13.50 M, 2.50 M of them active per token\n"));
  EXPECT_THAT(page, HasSubstr("12.00 M      24.0 MiB      12.0 MiB\n"));
}

TEST(Inspect, OneProcessHoldsEverything) {
  const std::string page = describe_model(small_config(), small_summary(), {});
  EXPECT_THAT(page, HasSubstr("one process   15.0 MiB and 1.5 KiB of KV cache per token\n"));
}

TEST(Inspect, WorkersShareTheExperts) {
  const std::string page = describe_model(small_config(), small_summary(), {.num_workers = 5});
  EXPECT_THAT(page, HasSubstr("coordinator   3.0 MiB and 1.5 KiB of KV cache per token\n"
                              "worker 1      3.0 MiB for 3 of 12 experts\n"));
  EXPECT_THAT(page, HasSubstr("worker 5      2.0 MiB for 2 of 12 experts\n"));
}

}  // namespace
}  // namespace pregate::cli
