#include "model/synthetic/make_model.h"

#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "base/thread_pool.h"
#include "compute/number.h"
#include "model/checkpoint/checkpoint.h"
#include "model/summary.h"
#include "model/synthetic/random_values.h"
#include "model/weights.h"
#include "tests/unit/model/scratch_checkpoint.h"

namespace pregate::model {
namespace {

using compute::DType;
using ::testing::HasSubstr;

TEST(MakeModel, EveryFamilyLoads) {
  ThreadPool threads(1);
  const auto backend = compute::make_backend("reference", threads).value();
  for (const Family* family : families()) {
    ScratchDirectory directory;
    const SyntheticOptions options{.family = std::string(family->model_type())};
    const Status made = make_model(directory.path(), options, {});
    ASSERT_TRUE(made) << made.error().message;
    const auto checkpoint = Checkpoint::open(directory.path());
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    EXPECT_EQ((*checkpoint)->family().model_type(), family->model_type());
    const ModelConfig& config = (*checkpoint)->config();
    EXPECT_EQ(config.eos_tokens, (std::vector<TokenId>{258, 256}));
    const auto weights = load_backbone(*checkpoint, *backend, compute::WeightFormat::kF32, {});
    ASSERT_TRUE(weights) << weights.error().message;
    if (config.num_experts == 0) continue;
    const auto expert =
        load_expert(**checkpoint, LayerIdx{1}, ExpertId{7}, *backend, compute::WeightFormat::kQ8);
    ASSERT_TRUE(expert) << expert.error().message;
  }
}

/// The largest difference between the results of an expert in two formats, for one row.
float difference_in_f8(const Checkpoint& checkpoint, compute::Backend& backend) {
  using compute::WeightFormat;
  const size_t h = checkpoint.config().hidden_size;
  std::vector<float> x(h, 0.25f);
  for (size_t i = 0; i < h; i += 3) x[i] = -1.5f;  // which bf16 holds
  const std::vector<uint32_t> row{0};
  const std::vector<float> gate{1.0f};
  const auto apply = [&](WeightFormat format) {
    const auto expert = load_expert(checkpoint, LayerIdx{1}, ExpertId{3}, backend, format).value();
    EXPECT_EQ(expert->format(), format);
    std::vector<std::byte> encoded(encoded_row_bytes(format, h));
    backend.encode({x.data(), 1, h}, format, encoded.data());
    const compute::ExpertTask task{expert.get(), row, row, gate};
    std::vector<float> out(h);
    backend.experts({format, 1, h, encoded.data()}, {&task, 1}, {out.data(), 1, h});
    return out;
  };
  const auto in_f8 = apply(WeightFormat::kF8), in_f32 = apply(WeightFormat::kF32);
  float largest = 0.0f, difference = 0.0f;
  for (size_t i = 0; i < h; ++i) {
    largest = std::max(largest, std::fabs(in_f32[i]));
    difference = std::max(difference, std::fabs(in_f8[i] - in_f32[i]));
  }
  return difference / largest;
}

TEST(MakeModel, In8BitsLosesNothingInF8) {
  ScratchDirectory directory;
  ASSERT_TRUE(make_model(directory.path(), {.family = "qwen3_moe", .dtype = DType::kF8}, {}));
  const auto checkpoint = Checkpoint::open(directory.path()).value();
  ThreadPool threads(1);
  const auto backend = compute::make_backend("cpu", threads).value();
  const auto weights = load_backbone(checkpoint, *backend, compute::WeightFormat::kF8, {});
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(weights->layers[0].o->format(), compute::WeightFormat::kF8);
  EXPECT_EQ(weights->lm_head->format(), compute::WeightFormat::kBf16);
  // Activations are rounded to bf16; weights that were rounded anew would be 2^-5 off.
  EXPECT_LT(difference_in_f8(*checkpoint, *backend), 4e-3f);
}

TEST(MakeModel, ShardsHoldTheSameTensorsAsOneFile) {
  ScratchDirectory directory;
  size_t last_done = 0, total = 0;
  const auto progress = [&](size_t done_bytes, size_t total_bytes) {
    last_done = done_bytes;
    total = total_bytes;
  };
  SyntheticOptions options{.dtype = DType::kF32, .seed = 5};
  ASSERT_TRUE(make_model(directory.path() / "one", options, progress));
  EXPECT_EQ(last_done, total);
  options.shard_bytes = 200'000;
  ASSERT_TRUE(make_model(directory.path() / "many", options, {}));
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "many/model.safetensors.index.json"));
  const auto one = Checkpoint::open(directory.path() / "one").value();
  const auto many = Checkpoint::open(directory.path() / "many").value();
  ASSERT_EQ(one->tensor_names(), many->tensor_names());
  for (const std::string& name : one->tensor_names()) {
    const TensorView a = one->tensor(name).value(), b = many->tensor(name).value();
    ASSERT_EQ(a.bytes, b.bytes);
    EXPECT_EQ(std::memcmp(a.data, b.data, a.bytes), 0) << name;
  }
}

TEST(MakeModel, SeedsDiffer) {
  ScratchDirectory directory;
  ASSERT_TRUE(make_model(directory.path() / "1", {.seed = 1}, {}));
  ASSERT_TRUE(make_model(directory.path() / "2", {.seed = 2}, {}));
  EXPECT_NE(read_file(directory.path() / "1/model.safetensors").value(),
            read_file(directory.path() / "2/model.safetensors").value());
}

TEST(MakeModel, PresetsHaveTheirPublishedSizes) {
  const auto config = [](const char* like) { return synthetic_config({.like = like}).value(); };
  const auto parameters = [](const ModelConfig& c) {
    size_t total = 0;
    for (const TensorId& id : all_tensors(c)) {
      size_t count = 1;
      for (const size_t extent : tensor_shape(c, id)) count *= extent;
      total += count;
    }
    return double(total) / 1e9;
  };
  EXPECT_NEAR(parameters(config("olmoe-1b-7b")), 6.92, 0.01);
  EXPECT_NEAR(parameters(config("mixtral-8x7b")), 46.70, 0.01);
  EXPECT_NEAR(parameters(config("qwen1.5-moe-a2.7b")), 14.32, 0.01);
  EXPECT_NEAR(parameters(config("qwen3-30b-a3b")), 30.53, 0.01);
}

TEST(MakeModel, Overrides) {
  const auto config = synthetic_config({.like = "mixtral-8x7b",
                                        .num_layers = 3,
                                        .hidden_size = 96,
                                        .num_heads = 6,
                                        .num_kv_heads = 2,
                                        .num_experts = 5,
                                        .vocab_size = 300,
                                        .tie_embeddings = true});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->num_layers(), 3u);
  EXPECT_EQ(config->head_dim, 16u);
  EXPECT_EQ(config->num_experts, 5u);
  EXPECT_TRUE(config->tie_embeddings);
  EXPECT_EQ(config->expert_intermediate_size, 14336u);
}

TEST(MakeModel, TheTokenizerHasEveryIdOnceAndMergesOfKnownPieces) {
  ScratchDirectory directory;
  ASSERT_TRUE(make_model(directory.path(), {.vocab_size = 1500}, {}));
  const auto file = read_json_object(directory.path() / "tokenizer.json").value();
  const auto& bpe = file.at("model").as_object();
  const auto& vocabulary = bpe.at("vocab").as_object();
  std::set<int64_t> ids;
  for (const auto& entry : vocabulary) ids.insert(entry.value().to_number<int64_t>());
  EXPECT_EQ(vocabulary.size(), 1500u);
  EXPECT_EQ(ids.size(), 1500u);
  EXPECT_EQ(*ids.rbegin(), 1499);
  for (const auto& merge : bpe.at("merges").as_array()) {
    const std::string text(merge.as_string());
    const size_t space = text.find(' ');
    const std::string left = text.substr(0, space), right = text.substr(space + 1);
    EXPECT_TRUE(vocabulary.contains(left) && vocabulary.contains(right)) << text;
    EXPECT_TRUE(vocabulary.contains(left + right)) << text;
  }
  for (const auto& token : file.at("added_tokens").as_array()) {
    EXPECT_EQ(token.at("id"), vocabulary.at(token.at("content").as_string()));
  }
}

TEST(MakeModel, ShapesThatCannotBe) {
  const auto message = [](const SyntheticOptions& options) {
    const auto config = synthetic_config(options);
    EXPECT_FALSE(config);
    return config ? "" : config.error().message;
  };
  EXPECT_THAT(message({.like = "gpt-5"}), HasSubstr("known: tiny, olmoe-1b-7b"));
  EXPECT_THAT(message({.family = "mamba"}), HasSubstr("known: llama, mixtral, olmoe"));
  EXPECT_THAT(message({.head_dim = 32}), HasSubstr("head-dim"));
  EXPECT_THAT(message({.shared_intermediate_size = 8}), HasSubstr("no shared expert"));
  EXPECT_THAT(message({.vocab_size = 100}), HasSubstr("vocab: 100 is too small"));
  EXPECT_THAT(message({.num_heads = 0}), HasSubstr("num_attention_heads"));
  EXPECT_THAT(message({.top_k = 9}), HasSubstr("num_experts_per_tok"));
}

TEST(MakeModel, LeavesAModelAlone) {
  ScratchDirectory directory;
  ASSERT_TRUE(make_model(directory.path(), {}, {}));
  const Status again = make_model(directory.path(), {}, {});
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("holds a model already"));
}

TEST(MakeModel, AnUnwritableDirectory) {
  const Status made = make_model("/proc/no/such", {}, {});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, HasSubstr("/proc/no/such: cannot create"));
}

TEST(RandomValues, HaveTheAskedMeanAndDeviationInEveryType) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16, DType::kF8}) {
    constexpr size_t kCount = 100'003;
    std::vector<std::byte> bytes(kCount * compute::dtype_bytes(dtype));
    RandomValues(3, {.mean = 0.5f, .deviation = 0.1f}, dtype).fill(bytes);
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < kCount; ++i) {
      float value = 0.0f;
      uint16_t half = 0;
      if (dtype == DType::kF32) std::memcpy(&value, bytes.data() + i * 4, 4);
      if (compute::dtype_bytes(dtype) == 2) std::memcpy(&half, bytes.data() + i * 2, 2);
      if (dtype == DType::kBf16) value = compute::bf16_to_f32(half);
      if (dtype == DType::kF16) value = compute::f16_to_f32(half);
      if (dtype == DType::kF8) value = compute::f8_to_f32(static_cast<uint8_t>(bytes[i]));
      sum += value;
      squares += double(value) * value;
    }
    const double mean = sum / kCount;
    EXPECT_NEAR(mean, 0.5, 0.002);
    EXPECT_NEAR(std::sqrt(squares / kCount - mean * mean), 0.1, 0.002);
  }
}

}  // namespace
}  // namespace pregate::model
