// Files of a refactored Llama: its masks, its widths, and what is wrong with bad ones.

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "model/checkpoint/checkpoint.h"
#include "model/families/family.h"
#include "model/refactored/activations.h"
#include "model/refactored/channel_masks.h"
#include "model/summary.h"

namespace pregate::model {
namespace {

namespace fs = std::filesystem;

const fs::path kData = fs::path(PREGATE_SOURCE_DIR) / "tests/golden/data";

ModelConfig config_of(const std::string& name) {
  return Checkpoint::open(kData / name).value()->config();
}

TEST(Refactored, WidthsComeFromTheTensors) {
  const ModelConfig unfused = config_of("readme_unfused");
  const ModelConfig fused = config_of("readme_fused");
  const ModelConfig masked = config_of("readme_masked/checkpoint");
  EXPECT_EQ(masked.num_experts, 7u);
  EXPECT_EQ(masked.top_k, 1u);
  for (uint32_t l = 0; l < masked.num_layers(); ++l) {
    const LayerIdx layer(l);
    EXPECT_GT(masked.shared_size(layer), 0u);
    EXPECT_EQ(unfused.shared_size(layer), masked.shared_size(layer));
    EXPECT_EQ(fused.shared_size(layer), 0u);
    for (uint32_t e = 0; e < 7; ++e) {
      const ExpertId expert(e);
      EXPECT_EQ(unfused.expert_size(layer, expert), masked.expert_size(layer, expert));
      EXPECT_EQ(fused.expert_size(layer, expert),
                masked.expert_size(layer, expert) + masked.shared_size(layer));
    }
  }
}

TEST(Refactored, ThePublishedRouterHasAsManyParametersAsPublished) {
  ModelConfig config;
  config.vocab_size = 32000;
  config.num_experts = 7;
  config.pregate = PregateConfig{.embedding_size = 512, .attention_size = 512, .mlp_size = 512};
  size_t count = 0;
  for (const TensorId& id : pregate_tensors(config)) {
    size_t parameters = 1;
    for (const size_t extent : tensor_shape(config, id)) parameters *= extent;
    count += parameters;
  }
  EXPECT_EQ(count, 17'965'063u);
}

TEST(Refactored, SummaryCountsEveryFormsExperts) {
  const auto experts = [](const std::string& name) {
    const auto checkpoint = Checkpoint::open(kData / name).value();
    const auto summary = summarize(*checkpoint, compute::WeightFormat::kF32);
    EXPECT_TRUE(summary.has_value()) << summary.error().message;
    for (const PartSize& part : summary->parts) {
      if (part.part == Part::kExperts) return part.parameters;
    }
    return size_t{0};
  };
  EXPECT_GT(experts("readme_unfused"), 0u);
  EXPECT_EQ(experts("readme_masked/checkpoint"), experts("readme_unfused"));
  EXPECT_GT(experts("readme_fused"), experts("readme_unfused"));
}

struct BadMask {
  std::string name, message;
};

class BadMaskTest : public ::testing::TestWithParam<BadMask> {};

TEST_P(BadMaskTest, IsRefusedByName) {
  const fs::path path = kData / "readme_masked/bad_masks" / (GetParam().name + ".pt");
  const auto masks = ChannelMasks::read(path, config_of("readme_masked/checkpoint"));
  ASSERT_FALSE(masks.has_value());
  EXPECT_NE(masks.error().message.find(path.string()), std::string::npos) << masks.error().message;
  EXPECT_NE(masks.error().message.find(GetParam().message), std::string::npos)
      << masks.error().message;
  EXPECT_FALSE(fs::exists("pickle-was-run"));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadMaskTest,
    ::testing::Values(BadMask{"too_many", "9 masks, expected \"residual\" and one for each of 7"},
                      BadMask{"too_few", "7 masks, expected \"residual\" and one for each of 7"},
                      BadMask{"overlap", "mask 3: has channel"},
                      BadMask{"short", "mask 2: shape [44], expected [45]"},
                      BadMask{"empty", "mask 2: all zero"},
                      BadMask{"half", "mask 2: 0.5 at channel"},
                      BadMask{"no_layer", "layers.2.mlp.down_proj: missing"},
                      BadMask{"code", "system"}, BadMask{"not_there", "not_there.pt"}),
    [](const auto& test) { return test.param.name; });

TEST(Activations, AreTheMeansOfMagnitudes) {
  ThreadPool threads(1);
  const auto backend = compute::make_backend("reference", threads).value();
  const auto checkpoint = Checkpoint::open(kData / "llama_gqa").value();
  const size_t h = checkpoint->config().hidden_size;
  auto statistics = ActivationStatistics::create(*checkpoint, *backend).value();

  std::vector<float> rows(2 * h);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 7) - 3.0f;
  statistics.add(LayerIdx(1), {rows.data(), 2, h});
  const std::vector<float> both = statistics.take_means();
  const size_t channels = statistics.num_channels();
  ASSERT_EQ(both.size(), statistics.num_layers() * channels);
  EXPECT_EQ(std::count(both.begin(), both.begin() + static_cast<long>(channels), 0.0f),
            static_cast<long>(channels));

  statistics.add(LayerIdx(1), {rows.data(), 1, h});
  const std::vector<float> first = statistics.take_means();
  statistics.add(LayerIdx(1), {rows.data() + h, 1, h});
  const std::vector<float> second = statistics.take_means();
  for (size_t c = 0; c < channels; ++c) {
    EXPECT_GE(first[channels + c], 0.0f);
    EXPECT_NEAR(both[channels + c], (first[channels + c] + second[channels + c]) / 2, 1e-5);
  }
}

TEST(Activations, NeedADenseModel) {
  ThreadPool threads(1);
  const auto backend = compute::make_backend("reference", threads).value();
  const auto checkpoint = Checkpoint::open(kData / "mixtral_gqa").value();
  const auto statistics = ActivationStatistics::create(*checkpoint, *backend);
  ASSERT_FALSE(statistics.has_value());
  EXPECT_NE(statistics.error().message.find("experts already"), std::string::npos);
}

}  // namespace
}  // namespace pregate::model
