#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/families/family.h"

namespace pregate::model {
namespace {

using ::testing::HasSubstr;

const Family& family_of(std::string_view architecture) {
  const auto all = families();
  return **std::find_if(all.begin(), all.end(), [&](const Family* family) {
    return family->architecture() == architecture;
  });
}

Result<ModelConfig> parse(std::string_view architecture, const std::string& json) {
  return family_of(architecture)
      .parse_config(FieldReader(boost::json::parse(json).as_object(), "config.json"));
}

ModelConfig parse_or_die(std::string_view architecture, const std::string& json) {
  auto config = parse(architecture, json);
  EXPECT_TRUE(config) << config.error().message;
  return config.value_or(ModelConfig{});
}

TEST(Config, OlmoeDefaults) {
  const ModelConfig config = parse_or_die("OlmoeForCausalLM", "{}");
  EXPECT_EQ(config.architecture, "OlmoeForCausalLM");
  EXPECT_EQ(config.vocab_size, 50304u);
  EXPECT_EQ(config.hidden_size, 2048u);
  EXPECT_EQ(config.num_layers(), 16u);
  EXPECT_EQ(config.num_kv_heads, 16u);
  EXPECT_EQ(config.head_dim, 128u);
  EXPECT_EQ(config.max_position, 4096u);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.qk_norm, QkNorm::kFull);
  EXPECT_FALSE(config.clip_qkv);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_EQ(config.num_experts, 64u);
  EXPECT_EQ(config.top_k, 8u);
  EXPECT_EQ(config.expert_intermediate_size, 2048u);
  EXPECT_FALSE(config.norm_topk_prob);
  EXPECT_EQ(config.eos_tokens, std::vector<TokenId>{50279});
  EXPECT_EQ(config.bos_token, -1);
}

TEST(Config, MixtralDefaults) {
  const ModelConfig config = parse_or_die("MixtralForCausalLM", "{}");
  EXPECT_EQ(config.num_layers(), 32u);
  EXPECT_EQ(config.num_heads, 32u);
  EXPECT_EQ(config.num_kv_heads, 8u);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.max_position, 131072u);
  EXPECT_EQ(config.expert_intermediate_size, 14336u);
  EXPECT_TRUE(config.norm_topk_prob);
  EXPECT_EQ(config.layers[31].window, 0u);
  EXPECT_EQ(config.bos_token, 1);
  EXPECT_EQ(config.eos_tokens, std::vector<TokenId>{2});
}

TEST(Config, Qwen2MoeDefaults) {
  const ModelConfig config = parse_or_die("Qwen2MoeForCausalLM", "{}");
  EXPECT_EQ(config.num_layers(), 24u);
  EXPECT_EQ(config.num_experts, 60u);
  EXPECT_EQ(config.top_k, 4u);
  EXPECT_EQ(config.expert_intermediate_size, 1408u);
  EXPECT_EQ(config.shared_intermediate_size, 5632u);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.attention_out_bias);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_TRUE(config.eos_tokens.empty());
}

TEST(Config, Qwen3MoeDefaults) {
  const ModelConfig config = parse_or_die("Qwen3MoeForCausalLM", "{}");
  EXPECT_EQ(config.num_heads, 32u);
  EXPECT_EQ(config.num_kv_heads, 4u);
  EXPECT_EQ(config.head_dim, 64u);
  EXPECT_EQ(config.qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(config.num_experts, 128u);
  EXPECT_EQ(config.expert_intermediate_size, 768u);
  EXPECT_EQ(config.shared_intermediate_size, 0u);
  EXPECT_FALSE(config.norm_topk_prob);
}

TEST(Config, NullCountsAsAbsentOrNone) {
  const ModelConfig config = parse_or_die(
      "MixtralForCausalLM",
      R"({"head_dim":null,"num_key_value_heads":null,"sliding_window":null,"rope_scaling":null,
          "eos_token_id":null,"bos_token_id":null,"hidden_size":null})");
  EXPECT_EQ(config.hidden_size, 4096u);
  EXPECT_EQ(config.num_kv_heads, 32u);
  EXPECT_EQ(config.head_dim, 128u);
  EXPECT_TRUE(config.eos_tokens.empty());
  EXPECT_EQ(config.bos_token, -1);
}

TEST(Config, BothNamesOfTheExpertCount) {
  for (const Family* family : families()) {
    if (family->model_type() == "llama") continue;  // Its experts are counted by N_cluster.
    const auto name = family->architecture();
    EXPECT_EQ(parse_or_die(name, R"({"num_experts":16,"num_experts_per_tok":3})").num_experts, 16u);
    EXPECT_EQ(parse_or_die(name, R"({"num_local_experts":16})").num_experts, 16u);
    EXPECT_FALSE(parse(name, R"({"num_local_experts":16,"num_experts":32})"));
  }
}

TEST(Config, BothSpellingsOfRope) {
  const char* old_spelling =
      R"({"rope_theta":5e5,"max_position_embeddings":4096,"rope_scaling":{"type":"yarn",
          "factor":4.0,"original_max_position_embeddings":1024,"beta_fast":16}})";
  const char* new_spelling =
      R"({"max_position_embeddings":4096,"rope_parameters":{"rope_type":"yarn","rope_theta":5e5,
          "factor":4.0,"original_max_position_embeddings":1024,"beta_fast":16}})";
  for (const char* json : {old_spelling, new_spelling}) {
    const ModelConfig config = parse_or_die("Qwen3MoeForCausalLM", json);
    EXPECT_EQ(config.rope.type, RopeType::kYarn);
    EXPECT_EQ(config.rope.theta, 5e5);
    EXPECT_EQ(config.rope.factor, 4.0);
    EXPECT_EQ(config.rope.original_max_position, 1024u);
    EXPECT_EQ(config.rope.beta_fast, 16.0);
    EXPECT_EQ(config.rope.beta_slow, 1.0);
    EXPECT_TRUE(config.rope.truncate);
    EXPECT_FALSE(config.rope.attention_factor);
    EXPECT_EQ(config.max_position, 4096u);
  }
}

TEST(Config, StretchedContexts) {
  const auto longest = [](const std::string& rope) {
    return parse_or_die("OlmoeForCausalLM",
                        R"({"max_position_embeddings":1000,"rope_scaling":)" + rope + "}")
        .max_position;
  };
  EXPECT_EQ(longest(R"({"rope_type":"linear","factor":2})"), 2000u);
  EXPECT_EQ(longest(R"({"rope_type":"dynamic","factor":1.5})"), 1500u);
  EXPECT_EQ(longest(R"({"rope_type":"yarn","factor":4})"), 4000u);
  EXPECT_EQ(longest(R"({"rope_type":"yarn","factor":null,
                        "original_max_position_embeddings":250})"),
            1000u);
  EXPECT_EQ(longest(R"({"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,
                        "original_max_position_embeddings":500})"),
            1000u);
  EXPECT_EQ(longest(R"({"rope_type":"linear","factor":1e300})"), kMaxContextTokens);
}

TEST(Config, DenseLayersAmongMoeLayers) {
  const ModelConfig config =
      parse_or_die("Qwen3MoeForCausalLM",
                   R"({"num_hidden_layers":6,"decoder_sparse_step":2,"mlp_only_layers":[3,17],
          "intermediate_size":100})");
  std::vector<bool> is_moe;
  for (const LayerConfig& layer : config.layers) is_moe.push_back(layer.is_moe);
  EXPECT_EQ(is_moe, (std::vector<bool>{false, true, false, false, false, true}));
  EXPECT_EQ(config.layers[0].intermediate_size, 100u);
  EXPECT_EQ(config.layers[1].intermediate_size, 0u);
}

std::vector<size_t> windows(std::string_view architecture, const std::string& json) {
  std::vector<size_t> result;
  for (const auto& layer : parse_or_die(architecture, json).layers) result.push_back(layer.window);
  return result;
}

TEST(Config, SlidingWindows) {
  using Windows = std::vector<size_t>;
  EXPECT_EQ(windows("MixtralForCausalLM", R"({"num_hidden_layers":2,"sliding_window":8})"),
            (Windows{8, 8}));
  EXPECT_EQ(windows("Qwen3MoeForCausalLM", R"({"num_hidden_layers":2,"sliding_window":8})"),
            (Windows{0, 0}));
  EXPECT_EQ(windows("Qwen3MoeForCausalLM",
                    R"({"num_hidden_layers":2,"sliding_window":8,"use_sliding_window":true})"),
            (Windows{8, 8}));
  EXPECT_EQ(windows("Qwen2MoeForCausalLM",
                    R"({"num_hidden_layers":4,"sliding_window":8,"use_sliding_window":true,
                        "max_window_layers":2})"),
            (Windows{8, 0, 0, 0}));
  EXPECT_EQ(windows("Qwen2MoeForCausalLM",
                    R"({"num_hidden_layers":2,"sliding_window":8,"use_sliding_window":true,
                        "layer_types":["full_attention","sliding_attention"]})"),
            (Windows{0, 8}));
}

struct BadConfig {
  const char* name;
  const char* json;
  const char* message;
};

class BadConfigs : public ::testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigs, NameTheField) {
  const auto config = parse("Qwen2MoeForCausalLM", GetParam().json);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(config.error().message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadConfigs,
    ::testing::Values(
        BadConfig{
            "WrongType", R"({"hidden_size":"big"})",
            "config.json: hidden_size: expected an integer from 1 to 16777216, found \"big\""},
        BadConfig{"Zero", R"({"num_hidden_layers":0})", "num_hidden_layers: expected"},
        BadConfig{"Negative", R"({"vocab_size":-5})", "vocab_size: expected"},
        BadConfig{"HugeVocabulary", R"({"vocab_size":4194305})", "vocab_size: expected"},
        BadConfig{"Fraction", R"({"vocab_size":5.5})", "vocab_size: expected"},
        BadConfig{"Huge", R"({"hidden_size":1e18})", "hidden_size: expected"},
        BadConfig{"TopK", R"({"num_experts":4,"num_experts_per_tok":5})",
                  "num_experts_per_tok: expected at most 4 experts, found 5"},
        BadConfig{"KvHeads", R"({"num_key_value_heads":3})",
                  "num_key_value_heads: expected a divisor of 16 heads, found 3"},
        BadConfig{"Heads", R"({"num_attention_heads":3,"num_key_value_heads":3})",
                  "num_attention_heads: expected a divisor of hidden_size 2048"},
        BadConfig{"OddHead", R"({"head_dim":7})", "head_dim: expected an even number"},
        BadConfig{"Activation", R"({"hidden_act":"gelu"})", "hidden_act: expected \"silu\""},
        BadConfig{"Quantised", R"({"quantization_config":{"quant_method":"gptq"}})",
                  "config.json: quantization_config: quant_method: expected \"fp8\" (or weights in "
                  "F32, BF16 or F16), found \"gptq\""},
        BadConfig{"QuantisedAnotherFp8",
                  R"({"quantization_config":{"quant_method":"fp8","fmt":"e5m2"}})",
                  "quantization_config: fmt: expected \"e4m3\", found \"e5m2\""},
        BadConfig{"QuantisedWithoutBlocks", R"({"quantization_config":{"quant_method":"fp8"}})",
                  "quantization_config: weight_block_size: expected rows and columns of a block"},
        BadConfig{"QuantisedHugeBlocks",
                  R"({"quantization_config":{"quant_method":"fp8",
                      "weight_block_size":[18446744073709551615,128]}})",
                  "weight_block_size: expected rows and columns of a block"},
        BadConfig{
            "QuantisedEmptyBlocks",
            R"({"quantization_config":{"quant_method":"fp8","weight_block_size":[128,0]}})",
            "weight_block_size: expected rows and columns of a block, as in [128, 128], found"},
        BadConfig{"Flag", R"({"norm_topk_prob":1})", "norm_topk_prob: expected true or false"},
        BadConfig{"SparseStep", R"({"decoder_sparse_step":0})", "decoder_sparse_step: expected"},
        BadConfig{"MlpOnly", R"({"mlp_only_layers":["a"]})", "mlp_only_layers: expected a list"},
        BadConfig{"LayerTypes", R"({"layer_types":["full_attention"]})",
                  "layer_types: expected 24 layers"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Rope, BadConfigs,
    ::testing::Values(
        BadConfig{"Type", R"({"rope_scaling":{"rope_type":"spiral","factor":2}})",
                  "config.json: rope_scaling: rope_type: expected default, linear, dynamic, yarn "
                  "or llama3, found \"spiral\""},
        BadConfig{"NoFactor", R"({"rope_scaling":{"type":"linear"}})",
                  "rope_scaling: factor: missing"},
        BadConfig{"SmallFactor", R"({"rope_scaling":{"type":"linear","factor":0.5}})",
                  "rope_scaling: factor: expected a number of at least 1"},
        BadConfig{"NoObject", R"({"rope_parameters":5})", "rope_parameters: expected an object"},
        BadConfig{"Theta", R"({"rope_theta":0})", "rope_theta: expected"},
        BadConfig{"ThetaIn5", R"({"rope_parameters":{"rope_theta":1}})",
                  "rope_parameters: rope_theta: expected more than 1"},
        BadConfig{"Llama3", R"({"rope_scaling":{"rope_type":"llama3","factor":2,
                                "low_freq_factor":4,"high_freq_factor":4}})",
                  "high_freq_factor: expected more than low_freq_factor"},
        BadConfig{"Partial", R"({"partial_rotary_factor":0.5})", "partial_rotary_factor"},
        BadConfig{"PerLayerType", R"({"rope_parameters":{"full_attention":{}}})",
                  "full_attention: expected one setting for all layers"}),
    [](const auto& test) { return test.param.name; });

TEST(Config, WhatIsWrittenIsReadBack) {
  for (const Family* family : families()) {
    ModelConfig config =
        parse_or_die(family->architecture(),
                     R"({"num_hidden_layers":3,"hidden_size":96,"num_attention_heads":6,
            "num_key_value_heads":2,"head_dim":16,"num_experts":5,"num_experts_per_tok":2,
            "vocab_size":300,"rope_scaling":{"type":"yarn","factor":2.0,"truncate":false,
            "attention_factor":1.25,"original_max_position_embeddings":64},"eos_token_id":[7,9],
            "max_position_embeddings":128,"clip_qkv":8.0,"tie_word_embeddings":true})");
    FieldReader fields(family->write_config(config), "written");
    auto again = family->parse_config(fields);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(boost::json::serialize(family->write_config(*again)),
              boost::json::serialize(family->write_config(config)));
    EXPECT_EQ(again->max_position, config.max_position);
    EXPECT_EQ(again->rope.attention_factor, 1.25);
    EXPECT_EQ(again->rope.original_max_position, 64u);
    EXPECT_EQ(again->eos_tokens, (std::vector<TokenId>{7, 9}));
    EXPECT_EQ(again->clip_qkv, config.clip_qkv);
    EXPECT_EQ(again->num_experts, config.num_experts);
    EXPECT_EQ(again->num_experts, family->model_type() == "llama" ? 0u : 5u);
  }
}

}  // namespace
}  // namespace pregate::model
