#include "model/weights.h"

#include <algorithm>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "compute/number.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/direct_files.h"
#include "model/families/family.h"
#include "model/summary.h"
#include "tests/unit/model/scratch_checkpoint.h"

namespace pregate::model {
namespace {

using compute::WeightFormat;
using ::testing::HasSubstr;

constexpr const char* kQwen2 =
    R"({"architectures":["Qwen2MoeForCausalLM"],"hidden_size":8,"num_attention_heads":2,
        "num_key_value_heads":1,"num_hidden_layers":2,"num_experts":3,"num_experts_per_tok":2,
        "moe_intermediate_size":6,"shared_expert_intermediate_size":10,"intermediate_size":12,
        "mlp_only_layers":[1],"vocab_size":16,"tie_word_embeddings":false})";

std::vector<float> numbers(const compute::RowVector& vector) {
  return {vector.view().begin(), vector.view().end()};
}

/// A whole Qwen2Moe model of one MoE and one dense layer, whose tensors a test may change.
class Weights : public ::testing::Test {
 protected:
  Weights() {
    directory_.write("config.json", kQwen2);
    FieldReader fields(boost::json::parse(kQwen2).as_object(), "config.json");
    const Family& family = **std::ranges::find(families(), "qwen2_moe", &Family::model_type);
    config_ = family.parse_config(fields).value();
    tensors_ = scratch_tensors(family, config_);
  }

  std::shared_ptr<const Checkpoint> open() {
    directory_.write("model.safetensors", safetensors_bytes(tensors_));
    auto checkpoint = Checkpoint::open(directory_.path());
    EXPECT_TRUE(checkpoint) << checkpoint.error().message;
    return checkpoint.value();
  }
  std::string backbone_error(ErrorCode code) {
    const auto weights = load_backbone(open(), *backend_, WeightFormat::kF32, {});
    EXPECT_FALSE(weights);
    if (weights) return "";
    EXPECT_EQ(weights.error().code, code);
    return weights.error().message;
  }
  std::string expert_error(ErrorCode code) {
    const auto expert =
        load_expert(*open(), LayerIdx{0}, ExpertId{1}, *backend_, WeightFormat::kF32);
    EXPECT_FALSE(expert);
    if (expert) return "";
    EXPECT_EQ(expert.error().code, code);
    return expert.error().message;
  }
  /// The expert applied to one row of ones.
  std::vector<float> apply(const compute::PackedExpert& expert) {
    const std::vector<float> x(8, 0.01f);
    std::vector<float> out(8);
    const std::vector<uint32_t> rows{0};
    const std::vector<float> gates{1.0f};
    const compute::ExpertTask task{&expert, rows, rows, gates};
    const auto* data = reinterpret_cast<const std::byte*>(x.data());
    backend_->experts({WeightFormat::kF32, 1, 8, data}, {&task, 1}, {out.data(), 1, 8});
    return out;
  }

  ScratchDirectory directory_;
  ThreadPool threads_{1};
  std::unique_ptr<compute::Backend> backend_ = compute::make_backend("reference", threads_).value();
  ModelConfig config_;
  ScratchTensors tensors_;
};

TEST_F(Weights, LoadsAllButTheRoutedExperts) {
  size_t last_done = 0, last_total = 0;
  const auto progress = [&](size_t done, size_t total) {
    EXPECT_GE(done, last_done);
    last_done = done;
    last_total = total;
  };
  const auto weights = load_backbone(open(), *backend_, WeightFormat::kF32, progress);
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_GT(last_total, 0u);
  EXPECT_EQ(last_done, last_total);
  EXPECT_EQ(weights->embedding.rows, 16u);
  EXPECT_EQ(weights->lm_head->out_features(), 16u);
  ASSERT_EQ(weights->layers.size(), 2u);
  const LayerWeights& moe = weights->layers[0];
  EXPECT_EQ(numbers(moe.input_norm), tensors_["model.layers.0.input_layernorm.weight"].values);
  EXPECT_EQ(numbers(moe.q_bias), tensors_["model.layers.0.self_attn.q_proj.bias"].values);
  EXPECT_EQ(moe.k->out_features(), 4u);
  EXPECT_EQ(moe.router->out_features(), 3u);
  EXPECT_EQ(moe.shared->intermediate_size(), 10u);
  EXPECT_EQ(moe.shared_gate->out_features(), 1u);
  EXPECT_TRUE(moe.o_bias.empty());
  EXPECT_EQ(moe.dense, nullptr);
  const LayerWeights& dense = weights->layers[1];
  EXPECT_EQ(dense.dense->intermediate_size(), 12u);
  EXPECT_EQ(dense.router, nullptr);
  EXPECT_GT(weights->bytes(), 16u * 8 * 4);
}

TEST_F(Weights, RouterStaysF32WhateverTheFormat) {
  const auto weights = load_backbone(open(), *backend_, WeightFormat::kQ8, {});
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(weights->layers[0].router->format(), WeightFormat::kF32);
  EXPECT_EQ(weights->layers[0].shared_gate->format(), WeightFormat::kF32);
  EXPECT_EQ(weights->layers[0].q->format(), WeightFormat::kQ8);
}

TEST_F(Weights, InQ4AreExpertsAndMlpsOnly) {
  const auto checkpoint = open();
  const auto weights = load_backbone(checkpoint, *backend_, WeightFormat::kQ4, {});
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(weights->layers[0].q->format(), WeightFormat::kQ8);
  EXPECT_EQ(weights->lm_head->format(), WeightFormat::kQ8);
  EXPECT_EQ(weights->layers[0].router->format(), WeightFormat::kF32);
  EXPECT_EQ(weights->layers[0].shared->format(), WeightFormat::kQ4);
  EXPECT_EQ(weights->layers[1].dense->format(), WeightFormat::kQ4);
  const auto summary = summarize(*checkpoint, WeightFormat::kQ4);
  ASSERT_TRUE(summary) << summary.error().message;
  // Gate and up of 6 outputs and down of 8, whose few inputs take a group each.
  EXPECT_EQ(summary->expert_loaded_bytes, (6 + 6 + 8) * 70u);
  for (const PartSize& part : summary->parts) {
    if (part.part != Part::kAttention) continue;
    const auto in_q8 = summarize(*checkpoint, WeightFormat::kQ8).value();
    const auto same = std::ranges::find(in_q8.parts, Part::kAttention, &PartSize::part);
    EXPECT_EQ(part.loaded_bytes, same->loaded_bytes);
  }
}

TEST_F(Weights, InF8AreExpertsMlpsAndWhatIsPublishedSo) {
  const std::string query = "model.layers.0.self_attn.q_proj.weight";
  tensors_[query] = {{8, 8}, {}, std::string(64, '8')};
  tensors_[query + "_scale_inv"] = {{1, 1}, {0.5f}};
  auto config = boost::json::parse(kQwen2).as_object();
  const auto formats = [&](int block) {
    config["quantization_config"] = {{"quant_method", "fp8"},
                                     {"weight_block_size", {block, block}}};
    directory_.write("config.json", boost::json::serialize(config));
    const auto checkpoint = open();
    const auto weights = load_backbone(checkpoint, *backend_, WeightFormat::kF8, {}).value();
    const LayerWeights& layer = weights.layers[0];
    // Attention is not summarised otherwise than it is loaded.
    const auto parts = summarize(*checkpoint, WeightFormat::kF8).value().parts;
    const auto attention = std::ranges::find(parts, Part::kAttention, &PartSize::part);
    size_t bytes = 0;
    for (const LayerWeights& one : weights.layers) {
      for (const auto* matrix : {&one.q, &one.k, &one.v, &one.o}) bytes += (*matrix)->bytes();
      for (const auto* bias : {&one.q_bias, &one.k_bias, &one.v_bias}) bytes += bias->bytes();
    }
    EXPECT_EQ(attention->loaded_bytes, bytes);
    return std::vector{layer.q->format(),         layer.k->format(),
                       weights.lm_head->format(), layer.router->format(),
                       layer.shared->format(),    weights.layers[1].dense->format()};
  };
  using enum WeightFormat;
  EXPECT_EQ(formats(128), (std::vector{kF8, kBf16, kBf16, kF32, kF8, kF8}));
  EXPECT_EQ(formats(64), (std::vector{kBf16, kBf16, kBf16, kF32, kF8, kF8}));
}

/// An expert whose gate is of 8-bit numbers, in blocks that its shape cuts off.
class F8Weights : public Weights {
 protected:
  F8Weights() {
    configure(R"({"quant_method":"fp8","weight_block_size":[4,5]})");
    ScratchTensor& gate = tensors_[kGate];
    for (uint8_t i = 0; i < 48; ++i) gate.f8 += static_cast<char>(i % 2 != 0 ? 0x80 + i : i);
    tensors_[kScales] = {{2, 2}, {0.5f, 3.0f, 7.0f, 0.1f}};
  }

  void configure(const std::string& quantization) {
    auto config = boost::json::parse(kQwen2).as_object();
    config["quantization_config"] = boost::json::parse(quantization);
    directory_.write("config.json", boost::json::serialize(config));
  }
  std::vector<float> apply_expert(const DirectFiles* direct = nullptr) {
    const auto checkpoint = open();
    const auto expert =
        load_expert(*checkpoint, LayerIdx{0}, ExpertId{1}, *backend_, WeightFormat::kF32, direct);
    EXPECT_TRUE(expert) << expert.error().message;
    return expert ? apply(**expert) : std::vector<float>();
  }

  static constexpr const char* kGate = "model.layers.0.mlp.experts.1.gate_proj.weight";
  static constexpr const char* kScales = "model.layers.0.mlp.experts.1.gate_proj.weight_scale_inv";
};

TEST_F(F8Weights, AreScaledByBlock) {
  const std::vector<float> out = apply_expert();
  const auto direct = DirectFiles::open(*open()).value();
  EXPECT_EQ(apply_expert(direct.get()), out);

  const ScratchTensor f8 = std::exchange(tensors_[kGate], {{6, 8}, {}});
  const std::vector<float>& scales = tensors_[kScales].values;
  for (size_t row = 0; row < 6; ++row) {
    for (size_t col = 0; col < 8; ++col) {
      const float value = compute::f8_to_f32(static_cast<uint8_t>(f8.f8[row * 8 + col]));
      tensors_[kGate].values.push_back(value * scales[row / 4 * 2 + col / 5]);
    }
  }
  EXPECT_EQ(apply_expert(), out);
  EXPECT_NE(out, std::vector<float>(8, 0.0f));
}

TEST_F(F8Weights, NeedScales) {
  tensors_.erase(kScales);
  EXPECT_THAT(expert_error(ErrorCode::kNotFound), HasSubstr(kScales));
}

TEST_F(F8Weights, NeedScalesThatFit) {
  tensors_[kScales] = {{1, 2}, {1.0f, 1.0f}};
  EXPECT_THAT(expert_error(ErrorCode::kDataLoss),
              HasSubstr("weight_scale_inv: shape [1, 2], expected [2, 2] of F32, BF16 or F16 for "
                        "blocks of [4, 5]"));
  tensors_[kScales] = {{2, 2}, {}, "abcd"};
  EXPECT_THAT(expert_error(ErrorCode::kDataLoss), HasSubstr("of F32, BF16 or F16 for blocks"));
}

TEST_F(F8Weights, ScalesInAFileThatChangedAreRefused) {
  ScratchTensors scales;
  scales.insert(tensors_.extract(kScales));
  directory_.write("a.safetensors", safetensors_bytes(tensors_));
  directory_.write("b.safetensors", safetensors_bytes(scales));
  const auto checkpoint = Checkpoint::open(directory_.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  const auto load = [&] {
    return load_expert(**checkpoint, LayerIdx{0}, ExpertId{1}, *backend_, WeightFormat::kF32);
  };
  EXPECT_TRUE(load());
  std::filesystem::remove(directory_.path() / "b.safetensors");
  directory_.write("b.safetensors", safetensors_bytes(scales) + "more");
  const auto expert = load();
  ASSERT_FALSE(expert);
  EXPECT_EQ(expert.error().code, ErrorCode::kDataLoss);
  EXPECT_THAT(expert.error().message, HasSubstr("b.safetensors: was replaced or written to"));
}

TEST_F(F8Weights, NeedAConfigThatSaysSo) {
  directory_.write("config.json", kQwen2);
  EXPECT_THAT(expert_error(ErrorCode::kDataLoss),
              HasSubstr("gate_proj.weight: F8_E4M3 without a quantization_config in config.json"));
}

TEST_F(F8Weights, AreMatrices) {
  tensors_["model.layers.0.input_layernorm.weight"] = {{8}, {}, "abcdefgh"};
  EXPECT_THAT(backbone_error(ErrorCode::kDataLoss),
              HasSubstr("input_layernorm.weight: F8_E4M3 of shape [8], expected a matrix"));
}

TEST_F(F8Weights, NumbersThatAreNoneAreNamed) {
  tensors_[kGate].f8[8 * 3 + 6] = 0x7f;
  EXPECT_THAT(expert_error(ErrorCode::kDataLoss), HasSubstr("row 3, column 6 is nan"));
  tensors_[kGate].f8[8 * 3 + 6] = 0;
  tensors_[kScales].values[3] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(expert_error(ErrorCode::kDataLoss), HasSubstr("row 4, column 5 is -inf"));
}

TEST_F(Weights, FusedExpertsEqualSingleOnes) {
  const auto load = [&](const Checkpoint& checkpoint, uint32_t e) {
    return load_expert(checkpoint, LayerIdx{0}, ExpertId{e}, *backend_, WeightFormat::kF32).value();
  };
  std::vector<std::vector<float>> expected;
  const auto single = open();
  for (uint32_t e = 0; e < 3; ++e) expected.push_back(apply(*load(*single, e)));

  ScratchTensor gate_up{{3, 12, 8}, {}}, down{{3, 8, 6}, {}};
  for (int e = 0; e < 3; ++e) {
    const std::string prefix = fmt::format("model.layers.0.mlp.experts.{}.", e);
    for (const auto& [part, into] :
         {std::pair{"gate_proj", &gate_up}, {"up_proj", &gate_up}, {"down_proj", &down}}) {
      const auto node = tensors_.extract(prefix + part + ".weight");
      into->values.insert(into->values.end(), node.mapped().values.begin(),
                          node.mapped().values.end());
    }
  }
  tensors_["model.layers.0.mlp.experts.gate_up_proj"] = gate_up;
  tensors_["model.layers.0.mlp.experts.down_proj"] = down;
  const auto fused = open();
  const auto direct = DirectFiles::open(*fused).value();
  for (uint32_t e = 0; e < 3; ++e) {
    EXPECT_EQ(apply(*load(*fused, e)), expected[e]);
    EXPECT_EQ(apply(**load_expert(*fused, LayerIdx{0}, ExpertId{e}, *backend_, WeightFormat::kF32,
                                  direct.get())),
              expected[e]);
  }
  EXPECT_EQ(summarize(*fused, WeightFormat::kF32)->total_parameters,
            summarize(*single, WeightFormat::kF32)->total_parameters);
}

TEST_F(Weights, TiedEmbeddingsNeedNoLmHead) {
  tensors_.erase("lm_head.weight");
  EXPECT_THAT(backbone_error(ErrorCode::kNotFound), HasSubstr("no tensor lm_head.weight"));
  std::string tied = kQwen2;
  tied.replace(tied.find("false}"), 6, "true}");
  directory_.write("config.json", tied);
  const auto weights = load_backbone(open(), *backend_, WeightFormat::kF32, {});
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(weights->lm_head->out_features(), 16u);
}

TEST_F(Weights, AMissingTensorIsNamed) {
  tensors_.erase("model.layers.0.self_attn.k_proj.bias");
  EXPECT_THAT(backbone_error(ErrorCode::kNotFound),
              HasSubstr("no tensor model.layers.0.self_attn.k_proj.bias"));
  tensors_.erase("model.layers.0.mlp.experts.1.up_proj.weight");
  EXPECT_THAT(expert_error(ErrorCode::kNotFound),
              HasSubstr("no tensor model.layers.0.mlp.experts.1.up_proj.weight"));
}

TEST_F(Weights, AWrongShapeIsNamed) {
  tensors_["model.layers.0.self_attn.q_proj.weight"].shape = {4, 16};
  EXPECT_THAT(backbone_error(ErrorCode::kDataLoss),
              HasSubstr("model.safetensors: model.layers.0.self_attn.q_proj.weight: "
                        "shape [4, 16], expected [8, 8]"));
  tensors_["model.layers.0.mlp.experts.1.down_proj.weight"].shape = {6, 8};
  EXPECT_THAT(expert_error(ErrorCode::kDataLoss), HasSubstr("shape [6, 8], expected [8, 6]"));
}

TEST_F(Weights, NotANumberIsNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  tensors_["model.layers.0.mlp.experts.1.up_proj.weight"].values[9] = nan;
  EXPECT_THAT(expert_error(ErrorCode::kDataLoss),
              HasSubstr("model.safetensors: model.layers.0.mlp.experts.1."));
  tensors_["model.norm.weight"].values[3] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(backbone_error(ErrorCode::kDataLoss), HasSubstr("model.norm.weight"));
  tensors_["model.layers.1.self_attn.o_proj.weight"].values[0] = nan;
  EXPECT_THAT(backbone_error(ErrorCode::kDataLoss),
              HasSubstr("model.layers.1.self_attn.o_proj.weight"));
}

TEST_F(Weights, AnExpertThatTheModelHasNot) {
  const auto checkpoint = open();
  for (const auto& [layer, expert] : {std::pair{0u, 3u}, {1u, 0u}, {2u, 0u}}) {
    const auto loaded =
        load_expert(*checkpoint, LayerIdx{layer}, ExpertId{expert}, *backend_, WeightFormat::kF32);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST_F(Weights, SummaryAddsUp) {
  const auto checkpoint = open();
  const auto summary = summarize(*checkpoint, WeightFormat::kBf16);
  ASSERT_TRUE(summary) << summary.error().message;
  size_t parameters = 0;
  for (const auto& [name, tensor] : tensors_) parameters += tensor.values.size();
  EXPECT_EQ(summary->total_parameters, parameters);
  const size_t expert_parameters = 3 * 6 * 8;
  EXPECT_EQ(summary->active_parameters, parameters - expert_parameters);  // 2 of 3 experts
  EXPECT_EQ(summary->num_routed_experts, 3u);
  EXPECT_EQ(summary->expert_loaded_bytes, expert_parameters * 2);
  EXPECT_EQ(summary->kv_bytes_per_token, 2u * 2 * 4 * 2);
  tensors_.erase("model.layers.0.mlp.experts.2.up_proj.weight");
  EXPECT_FALSE(summarize(*open(), WeightFormat::kBf16));
}

TEST(ExpertsPerWorker, SpreadsEvenly) {
  EXPECT_EQ(experts_per_worker(7, 3), (std::vector<size_t>{3, 2, 2}));
  EXPECT_EQ(experts_per_worker(2, 3), (std::vector<size_t>{1, 1, 0}));
  EXPECT_TRUE(experts_per_worker(2, 0).empty());
}

TEST_F(Weights, AnExpertReadDirectlyIsTheSame) {
  const auto checkpoint = open();
  const auto direct = DirectFiles::open(*checkpoint);
  ASSERT_TRUE(direct) << direct.error().message;
  for (uint32_t e = 0; e < 3; ++e) {
    const auto mapped =
        load_expert(*checkpoint, LayerIdx{0}, ExpertId{e}, *backend_, WeightFormat::kF32);
    const auto read = load_expert(*checkpoint, LayerIdx{0}, ExpertId{e}, *backend_,
                                  WeightFormat::kF32, direct->get());
    ASSERT_TRUE(mapped && read);
    EXPECT_EQ(apply(**read), apply(**mapped));
  }
}

TEST_F(Weights, ACheckpointThatIsReplacedMeanwhileIsRefused) {
  const auto checkpoint = open();
  const auto direct = DirectFiles::open(*checkpoint).value();
  const auto path = directory_.path() / "model.safetensors";
  std::filesystem::copy_file(path, directory_.path() / "copy");
  std::filesystem::rename(directory_.path() / "copy", path);
  for (const DirectFiles* files : {direct.get(), static_cast<const DirectFiles*>(nullptr)}) {
    const auto expert =
        load_expert(*checkpoint, LayerIdx{0}, ExpertId{1}, *backend_, WeightFormat::kF32, files);
    ASSERT_FALSE(expert);
    EXPECT_EQ(expert.error().code, ErrorCode::kDataLoss);
    EXPECT_THAT(expert.error().message, HasSubstr("model.safetensors: was replaced"));
  }
  std::filesystem::remove(path);
  const auto expert =
      load_expert(*checkpoint, LayerIdx{0}, ExpertId{1}, *backend_, WeightFormat::kF32);
  ASSERT_FALSE(expert);
  EXPECT_THAT(expert.error().message, HasSubstr("was removed"));
}

TEST_F(Weights, ACheckpointThatIsCutShortMeanwhileIsRefused) {
  const auto checkpoint = open();
  std::filesystem::resize_file(directory_.path() / "model.safetensors", 100);
  const auto expert =
      load_expert(*checkpoint, LayerIdx{0}, ExpertId{1}, *backend_, WeightFormat::kF32);
  ASSERT_FALSE(expert);
  EXPECT_EQ(expert.error().code, ErrorCode::kDataLoss);
  EXPECT_THAT(expert.error().message, HasSubstr("written to (100 bytes"));
}

}  // namespace
}  // namespace pregate::model
