// The pre-gating router against its equations written in PyTorch (make_refactored.py): the expert
// of every token, with the whole prompt in one step and with one token after the other.

#include <numeric>

#include <gtest/gtest.h>

#include "cli/model_runtime.h"
#include "compute/cuda/select.h"
#include "router/pregate/pregate_router.h"
#include "tests/golden/golden_data.h"

namespace pregate {
namespace {

struct Prompt {
  std::vector<TokenId> ids;
  std::vector<int32_t> experts;
};

std::vector<Prompt> load_prompts(const std::filesystem::path& path) {
  const auto file = model::open_safetensors(path).value();
  const auto ids = golden::golden_tensor<int32_t>(file, "ids");
  const auto experts = golden::golden_tensor<int32_t>(file, "experts");
  auto starts = golden::golden_tensor<int32_t>(file, "starts");
  starts.push_back(static_cast<int32_t>(ids.size()));
  std::vector<Prompt> prompts;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    prompts.push_back({{ids.begin() + starts[i], ids.begin() + starts[i + 1]},
                       {experts.begin() + starts[i], experts.begin() + starts[i + 1]}});
  }
  return prompts;
}

class PregateRouterTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto quiet = [](const std::string&, size_t, size_t) {};
    auto runtime = cli::ModelRuntime::load(
        {.model = directory_,
         .backend = GetParam(),
         .kv_cache_bytes = 4 << 20,
         .preview_experts = true},
        cli::ModelRuntime::local_experts(compute::WeightFormat::kBf16, quiet), quiet);
    ASSERT_TRUE(runtime.has_value()) << runtime.error().message;
    runtime_ = std::move(*runtime);
    runtime_->engine().set_routing_observer([this](LayerIdx layer, const router::Decisions& said) {
      std::vector<int32_t>& seen = layer.value == 0 ? experts_ : experts_of_other_layers_;
      for (const ExpertId expert : said.expert_ids) seen.push_back(int32_t(expert.value));
      EXPECT_TRUE(std::ranges::all_of(said.gates, [](float gate) { return gate == 1.0f; }));
    });
    for (uint32_t b = 0; b < runtime_->num_kv_blocks(); ++b) blocks_.push_back(b);
  }

  /// The experts of a prompt's tokens, computed `chunk` tokens at a time.
  std::vector<int32_t> experts_of(const Prompt& prompt, size_t chunk) {
    experts_.clear();
    for (size_t at = 0; at < prompt.ids.size(); at += chunk) {
      const engine::StepSequence step{
          .tokens = std::span(prompt.ids).subspan(at, std::min(chunk, prompt.ids.size() - at)),
          .first_position = at,
          .length_tokens = prompt.ids.size(),
          .blocks = blocks_,
          .logits = engine::LogitRows::kNone};
      EXPECT_TRUE(runtime_->engine().step_all({&step, 1}, [](size_t, size_t, auto) {}).has_value());
    }
    return experts_;
  }

  /// The same from previews, on these blocks.
  std::vector<int32_t> preview_of(const Prompt& prompt, size_t chunk,
                                  std::span<const uint32_t> blocks) {
    std::vector<int32_t> experts;
    for (size_t at = 0; at < prompt.ids.size(); at += chunk) {
      const size_t count = std::min(chunk, prompt.ids.size() - at);
      std::vector<uint32_t> positions(count);
      std::iota(positions.begin(), positions.end(), static_cast<uint32_t>(at));
      const std::vector<uint32_t> lengths(count, static_cast<uint32_t>(prompt.ids.size()));
      const compute::SequenceRows rows{0, count, at, blocks};
      std::vector<ExpertId> said;
      EXPECT_TRUE(
          runtime_->engine()
              .router()
              .preview({std::span(prompt.ids).subspan(at, count), positions, lengths, {&rows, 1}},
                       said)
              .has_value());
      for (const ExpertId expert : said) experts.push_back(static_cast<int32_t>(expert.value));
    }
    return experts;
  }

  const std::filesystem::path directory_ = golden::golden_directory() / "readme_unfused";
  std::unique_ptr<cli::ModelRuntime> runtime_;
  std::vector<uint32_t> blocks_;
  std::vector<int32_t> experts_, experts_of_other_layers_;
};

TEST_P(PregateRouterTest, ExpertsAreTheReferencesWholeAndOneByOne) {
  const std::vector<Prompt> prompts = load_prompts(directory_ / "router.safetensors");
  ASSERT_EQ(prompts.size(), 1000u);
  for (const Prompt& prompt : prompts) {
    ASSERT_EQ(experts_of(prompt, prompt.ids.size()), prompt.experts);
    ASSERT_EQ(experts_of(prompt, 1), prompt.experts);
  }
}

TEST_P(PregateRouterTest, OneExpertServesAllLayers) {
  const Prompt prompt = load_prompts(directory_ / "router.safetensors").front();
  const std::vector<int32_t> first = experts_of(prompt, prompt.ids.size());
  ASSERT_EQ(experts_of_other_layers_.size(), 2 * first.size());
  for (size_t i = 0; i < experts_of_other_layers_.size(); ++i) {
    EXPECT_EQ(experts_of_other_layers_[i], first[i % first.size()]);
  }
}

TEST_P(PregateRouterTest, PreviewSaysWhatTheStepWillDecide) {
  const size_t num_own = runtime_->engine().router().num_preview_blocks();
  std::vector<uint32_t> own_blocks(num_own);
  std::iota(own_blocks.begin(), own_blocks.end(), uint32_t(runtime_->num_kv_blocks()));
  for (const Prompt& prompt : load_prompts(directory_ / "router.safetensors")) {
    ASSERT_EQ(preview_of(prompt, prompt.ids.size(), own_blocks), prompt.experts);
    ASSERT_EQ(preview_of(prompt, 7, own_blocks), prompt.experts);
  }
}

// The last token is looked at when all before it are in the sequence's blocks, and again by its
// step; a block that the sequence does not have yet is one of the router's.
TEST_P(PregateRouterTest, PreviewGoesOnFromAStepAndTheStepFromIt) {
  for (const Prompt& prompt : load_prompts(directory_ / "router.safetensors")) {
    const size_t last = prompt.ids.size() - 1;
    if (last == 0) continue;
    experts_of({{prompt.ids.begin(), prompt.ids.end() - 1}, {}}, last);
    std::vector<uint32_t> blocks(blocks_.begin(), blocks_.begin() + (last + 15) / 16);
    if (last % 16 == 0) blocks.push_back(static_cast<uint32_t>(runtime_->num_kv_blocks()));
    const uint32_t position = static_cast<uint32_t>(last), length = position + 1;
    const compute::SequenceRows rows{0, 1, last, blocks};
    std::vector<ExpertId> said;
    const router::StepTokens asked{
        {&prompt.ids[last], 1}, {&position, 1}, {&length, 1}, {&rows, 1}};
    ASSERT_TRUE(runtime_->engine().router().preview(asked, said).has_value());
    ASSERT_EQ(said, std::vector{ExpertId(static_cast<uint32_t>(prompt.experts[last]))});
    experts_.clear();
    const engine::StepSequence step{.tokens = {&prompt.ids[last], 1},
                                    .first_position = last,
                                    .length_tokens = prompt.ids.size(),
                                    .blocks = blocks_,
                                    .logits = engine::LogitRows::kNone};
    ASSERT_TRUE(runtime_->engine().step_all({&step, 1}, [](size_t, size_t, auto) {}).has_value());
    ASSERT_EQ(experts_, std::vector{prompt.experts[last]});
  }
}

std::vector<std::string> backends() {
  std::vector<std::string> names = compute::cuda::usable_devices();
  names.insert(names.end(), {"cpu", "reference"});
  return names;
}

INSTANTIATE_TEST_SUITE_P(Backends, PregateRouterTest, ::testing::ValuesIn(backends()));

}  // namespace
}  // namespace pregate
