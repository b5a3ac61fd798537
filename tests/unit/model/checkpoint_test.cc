#include "model/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/model/scratch_checkpoint.h"

namespace pregate::model {
namespace {

using ::testing::HasSubstr;

constexpr const char* kConfig =
    R"({"architectures":["MixtralForCausalLM"],"hidden_size":8,"num_attention_heads":2,
        "num_key_value_heads":1,"num_hidden_layers":1,"num_local_experts":2,"intermediate_size":6,
        "vocab_size":16})";
const std::string kTwoFloats =
    safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);

std::string open_error(const ScratchDirectory& directory, ErrorCode code) {
  const auto checkpoint = Checkpoint::open(directory.path());
  EXPECT_FALSE(checkpoint);
  if (checkpoint) return "";
  EXPECT_EQ(checkpoint.error().code, code);
  return checkpoint.error().message;
}

TEST(Checkpoint, OpensASingleFile) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("model.safetensors", kTwoFloats);
  directory.write("generation_config.json", R"({"eos_token_id":[3,5,99],"bos_token_id":0})");
  const auto opened = Checkpoint::open(directory.path());
  ASSERT_TRUE(opened) << opened.error().message;
  const Checkpoint& checkpoint = **opened;
  EXPECT_EQ(checkpoint.family().model_type(), "mixtral");
  EXPECT_EQ(checkpoint.config().eos_tokens, (std::vector<TokenId>{3, 5}));  // 99 of 16 cannot be
  EXPECT_EQ(checkpoint.config().bos_token, 0);
  EXPECT_EQ(checkpoint.tensor_names(), std::vector<std::string>{"a"});
  const auto tensor = checkpoint.tensor("a");
  ASSERT_TRUE(tensor);
  EXPECT_EQ(tensor->shape, std::vector<size_t>{2});
  EXPECT_EQ(tensor->bytes, 8u);
  EXPECT_THAT(std::string(tensor->file), HasSubstr("model.safetensors"));
  checkpoint.drop(*tensor);
  EXPECT_EQ(tensor->data[7], std::byte{0});
}

TEST(Checkpoint, AMissingTensorIsNotFound) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("model.safetensors", kTwoFloats);
  const auto tensor = (*Checkpoint::open(directory.path()))->tensor("b");
  ASSERT_FALSE(tensor);
  EXPECT_EQ(tensor.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(tensor.error().message, HasSubstr("no tensor b"));
}

TEST(Checkpoint, ATypeThatIsNoWeightIsRefusedWhenAskedFor) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("model.safetensors",
                  safetensors_bytes(R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}})", 2));
  const auto tensor = (*Checkpoint::open(directory.path()))->tensor("a");
  ASSERT_FALSE(tensor);
  EXPECT_THAT(tensor.error().message, HasSubstr("a: dtype I8, expected F32, BF16, F16 or F8_E4M3"));
}

TEST(Checkpoint, OpensShardsByIndexAndWithout) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("x-1.safetensors", kTwoFloats);
  directory.write(
      "x-2.safetensors",
      safetensors_bytes(R"({"b":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 2));
  const std::vector<std::string> both{"a", "b"};
  EXPECT_EQ((*Checkpoint::open(directory.path()))->tensor_names(), both);
  directory.write("model.safetensors.index.json",
                  R"({"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}})");
  EXPECT_EQ((*Checkpoint::open(directory.path()))->tensor_names(), both);
}

/// Files that make_torch_files.py wrote.
std::filesystem::path golden_torch(const std::string& name) {
  return std::filesystem::path(PREGATE_SOURCE_DIR) / "tests/golden/data/torch" / name;
}

TEST(Checkpoint, OpensOneFileOfTorch) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("training_args.bin", "no weights");
  std::filesystem::copy(golden_torch("state_dict.pt"), directory.path() / "pytorch_model.bin");
  const auto opened = Checkpoint::open(directory.path());
  ASSERT_TRUE(opened) << opened.error().message;
  const auto tensor = (*opened)->tensor("second_half");
  ASSERT_TRUE(tensor) << tensor.error().message;
  EXPECT_EQ(tensor->dtype, compute::DType::kF32);
  EXPECT_EQ(tensor->shape, (std::vector<size_t>{5, 1}));
  EXPECT_THAT(std::string(tensor->file), HasSubstr("pytorch_model.bin"));
  float first = 0;
  (*opened)->drop(*tensor);
  std::memcpy(&first, tensor->data, sizeof(first));
  EXPECT_EQ(first, 2.5f);
}

TEST(Checkpoint, OpensShardsOfTorchByIndexAndWithout) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  std::filesystem::copy(golden_torch("sharded"), directory.path());
  const auto names = [&] { return (*Checkpoint::open(directory.path()))->tensor_names(); };
  const std::vector<std::string> all{"bf16",      "bias",   "empty",       "f16",  "first_half",
                                     "parameter", "scalar", "second_half", "tied", "weight"};
  EXPECT_EQ(names(), all);
  std::filesystem::remove(directory.path() / "pytorch_model.bin.index.json");
  EXPECT_EQ(names(), all);
}

TEST(Checkpoint, SafetensorsWinOverFilesOfTorch) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("pytorch_model.bin", "not looked at");
  directory.write("x-1.safetensors", kTwoFloats);
  const auto opened = Checkpoint::open(directory.path());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ((*opened)->tensor_names(), std::vector<std::string>{"a"});
}

TEST(Checkpoint, ErrorsOfFilesOfTorch) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("pytorch_model.bin", "not a zip file, and longer than its end record would be");
  EXPECT_THAT(open_error(directory, ErrorCode::kDataLoss),
              HasSubstr("pytorch_model.bin: no zip file"));
  directory.write("pytorch_model.bin.index.json",
                  R"({"weight_map":{"a":"pytorch_model-00001-of-00002.bin"}})");
  EXPECT_THAT(open_error(directory, ErrorCode::kNotFound),
              HasSubstr("pytorch_model-00001-of-00002.bin: missing, though listed"));
}

TEST(Checkpoint, ErrorsOfTheIndex) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("x-1.safetensors", kTwoFloats);
  const auto error_with_index = [&](const char* index, ErrorCode code) {
    directory.write("model.safetensors.index.json", index);
    return open_error(directory, code);
  };
  EXPECT_THAT(error_with_index(R"({"weight_map":{"a":"x-9.safetensors"}})", ErrorCode::kNotFound),
              HasSubstr("x-9.safetensors: missing, though listed in model.safetensors.index.json"));
  EXPECT_THAT(error_with_index(R"({"weight_map":{"c":"x-1.safetensors"}})", ErrorCode::kDataLoss),
              HasSubstr("x-1.safetensors: tensor c is missing"));
  EXPECT_THAT(
      error_with_index(R"({"weight_map":{"a":"../x-1.safetensors"}})", ErrorCode::kDataLoss),
      HasSubstr("weight_map: expected file names"));
  EXPECT_THAT(error_with_index(R"({"weight_map":{"a":1}})", ErrorCode::kDataLoss),
              HasSubstr("weight_map: expected file names, found 1"));
  EXPECT_THAT(error_with_index(R"({})", ErrorCode::kDataLoss), HasSubstr("weight_map: expected"));
  EXPECT_THAT(error_with_index("{", ErrorCode::kDataLoss), HasSubstr("index.json: not JSON"));
}

TEST(Checkpoint, TheSameTensorInTwoFiles) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("x-1.safetensors", kTwoFloats);
  directory.write("x-2.safetensors", kTwoFloats);
  EXPECT_THAT(open_error(directory, ErrorCode::kDataLoss), HasSubstr("tensor a is also in"));
}

TEST(Checkpoint, NoConfig) {
  ScratchDirectory directory;
  EXPECT_THAT(open_error(directory, ErrorCode::kNotFound), HasSubstr("config.json: cannot open"));
}

TEST(Checkpoint, NoWeights) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  EXPECT_THAT(open_error(directory, ErrorCode::kNotFound),
              HasSubstr("no weights: expected model.safetensors, model.safetensors.index.json or "
                        "other *.safetensors, or pytorch_model.bin, pytorch_model.bin.index.json "
                        "or other pytorch_model*.bin"));
}

TEST(Checkpoint, BrokenConfig) {
  ScratchDirectory directory;
  directory.write("config.json", "{\"hidden_size\":");
  EXPECT_THAT(open_error(directory, ErrorCode::kDataLoss), HasSubstr("config.json: not JSON"));
  directory.write("config.json", R"({"architectures":"OlmoeForCausalLM"})");
  EXPECT_THAT(open_error(directory, ErrorCode::kInvalidArgument),
              HasSubstr("architectures: expected a list of strings"));
}

TEST(Checkpoint, UnknownFamilyListsTheKnown) {
  ScratchDirectory directory;
  directory.write("config.json", R"({"architectures":["MambaForCausalLM"]})");
  const std::string message = open_error(directory, ErrorCode::kUnimplemented);
  EXPECT_THAT(message, HasSubstr("unknown family \"MambaForCausalLM\""));
  EXPECT_THAT(message, HasSubstr("known: LlamaForCausalLM, MixtralForCausalLM, OlmoeForCausalLM, "
                                 "Qwen2MoeForCausalLM, Qwen3MoeForCausalLM"));
}

TEST(Checkpoint, TheModelTypeStandsInForArchitectures) {
  ScratchDirectory directory;
  directory.write("config.json", R"({"model_type":"olmoe"})");
  directory.write("model.safetensors", kTwoFloats);
  const auto opened = Checkpoint::open(directory.path());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ((*opened)->config().architecture, "OlmoeForCausalLM");
}

TEST(Checkpoint, BadGenerationConfig) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("model.safetensors", kTwoFloats);
  directory.write("generation_config.json", R"({"eos_token_id":"</s>"})");
  EXPECT_THAT(open_error(directory, ErrorCode::kInvalidArgument),
              HasSubstr("generation_config.json: eos_token_id: expected a list"));
  directory.write("generation_config.json", R"({"top_p":1.5})");
  EXPECT_THAT(open_error(directory, ErrorCode::kInvalidArgument),
              HasSubstr("generation_config.json: top_p: expected a number above 0, at most 1"));
  directory.write("generation_config.json", R"({"top_k":-1})");
  EXPECT_THAT(open_error(directory, ErrorCode::kInvalidArgument),
              HasSubstr("generation_config.json: top_k: expected an integer"));
}

TEST(Checkpoint, GenerationConfigGivesSamplingDefaults) {
  ScratchDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("model.safetensors", kTwoFloats);
  directory.write("generation_config.json",
                  R"({"temperature":0.6,"top_p":0.95,"top_k":20,"min_p":null})");
  const auto opened = Checkpoint::open(directory.path());
  ASSERT_TRUE(opened) << opened.error().message;
  const SamplingDefaults& sampling = (*opened)->config().sampling;
  EXPECT_EQ(sampling.temperature, 0.6);
  EXPECT_EQ(sampling.top_p, 0.95);
  EXPECT_EQ(sampling.top_k, 20u);
  EXPECT_FALSE(sampling.min_p);
  EXPECT_FALSE(sampling.repetition_penalty);
}

}  // namespace
}  // namespace pregate::model
