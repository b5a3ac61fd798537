// Files of tests/golden/data/torch, which make_torch_files.py there writes with torch.
#include "model/checkpoint/torch_file.h"

#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/number.h"
#include "tests/support/scratch_directory.h"
#include "tests/unit/model/pickle_bytes.h"
#include "tests/unit/model/zip_bytes.h"

namespace pregate::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(PREGATE_SOURCE_DIR) / "tests/golden/data/torch" / name;
}

TorchFile open_golden(const std::string& name) {
  auto file = TorchFile::open(golden(name));
  EXPECT_TRUE(file) << file.error().message;
  return std::move(file.value());
}

template <typename T>
std::vector<T> elements(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

/// 0, 0.5, 1, ... from `first`.
std::vector<float> ramp(size_t count, float first = 0) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(first + 0.5f * float(i));
  return values;
}

/// The vector of make_torch_files.py's mask().
std::vector<uint16_t> mask_vector(int layer, int projection, int k) {
  std::vector<uint16_t> values;
  for (int i = 0; i < 11; ++i) {
    const bool is_kept = (i * (k + 2) + layer + projection) % 3 == 0;
    values.push_back(compute::f32_to_f16(is_kept ? 1.0f : 0.0f));
  }
  return values;
}

void expect_mask(const TorchValue* value, const std::vector<uint16_t>& expected) {
  ASSERT_NE(value, nullptr);
  const TorchTensor* tensor = value->tensor();
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->dtype, "F16");
  EXPECT_THAT(tensor->shape, ElementsAre(11));
  EXPECT_EQ(elements<uint16_t>(contiguous_data(*tensor, "mask").value()), expected);
}

TEST(TorchFile, ReadsMasks) {
  const TorchFile file = open_golden("mask.pt");
  ASSERT_NE(file.root().dict(), nullptr);
  ASSERT_EQ(file.root().dict()->items.size(), 6u);
  const std::array projections{"gate_proj", "up_proj", "down_proj"};
  for (int layer = 0; layer < 2; ++layer) {
    for (int p = 0; p < 3; ++p) {
      const std::string name = fmt::format("module.model.layers.{}.mlp.{}", layer, projections[p]);
      const TorchValue* masks = file.root().dict()->find(name);
      ASSERT_NE(masks, nullptr) << name;
      ASSERT_NE(masks->dict(), nullptr) << name;
      EXPECT_EQ(masks->dict()->items.size(), 8u);
      expect_mask(masks->dict()->find("residual"), mask_vector(layer, p, 7));
      for (int k = 0; k < 7; ++k) expect_mask(masks->dict()->find(k), mask_vector(layer, p, k));
    }
  }
}

class Containers : public ::testing::TestWithParam<int> {};

TEST_P(Containers, AreReadFromEveryProtocol) {
  const TorchFile file = open_golden(fmt::format("containers_{}.pt", GetParam()));
  const TorchDict* root = file.root().dict();
  ASSERT_NE(root, nullptr);
  ASSERT_EQ(root->items.size(), 17u);
  const auto at = [&](const TorchKey& key) { return *root->find(key); };
  EXPECT_TRUE(at("none").is_none());
  EXPECT_EQ(at("true").flag(), true);
  EXPECT_EQ(at("false").flag(), false);
  EXPECT_EQ(at("zero").integer(), 0);
  EXPECT_EQ(at("byte").integer(), 255);
  EXPECT_EQ(at("short").integer(), 65535);
  EXPECT_EQ(at("int").integer(), -70000);
  EXPECT_EQ(at("long").integer(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(at("float").real(), -0.1);
  EXPECT_EQ(at("text").text(), "naïve 数");
  EXPECT_EQ(at("long text").text(), std::string(300, 'x'));
  EXPECT_EQ(at(-3).text(), "negative");
  EXPECT_EQ(at("list").list()->at(1).list()->at(1).list()->size(), 0u);
  EXPECT_EQ(at("tuple").list()->at(1).list()->at(1).integer(), 3);
  EXPECT_EQ(at("many").list()->size(), 2500u);
  EXPECT_EQ(at("many").list()->back().integer(), 2499);
  EXPECT_EQ(at("ordered").dict()->items[0].first, TorchKey("b"));
  EXPECT_EQ(at("twice").list()->at(1).list()->at(0).text(), "shared");
}

INSTANTIATE_TEST_SUITE_P(Protocols, Containers, ::testing::Values(2, 3, 4, 5));

void expect_f32(const TensorFile& file, const std::string& name, const std::vector<size_t>& shape,
                const std::vector<float>& values) {
  ASSERT_TRUE(file.tensors().contains(name)) << name;
  const TensorEntry& entry = file.tensors().find(name)->second;
  EXPECT_EQ(entry.dtype, "F32") << name;
  EXPECT_EQ(entry.shape, shape) << name;
  EXPECT_EQ(elements<float>(file.data(entry)), values) << name;
}

class StateDicts : public ::testing::TestWithParam<const char*> {};

TEST_P(StateDicts, AreFilesOfTensors) {
  const auto opened = open_torch_weights(golden(GetParam()));
  ASSERT_TRUE(opened) << opened.error().message;
  const TensorFile& file = *opened;
  EXPECT_EQ(file.tensors().size(), 10u);
  expect_f32(file, "weight", {2, 3}, ramp(6));
  expect_f32(file, "bias", {2}, ramp(2));
  expect_f32(file, "first_half", {5}, ramp(5));
  expect_f32(file, "second_half", {5, 1}, ramp(5, 2.5f));
  expect_f32(file, "tied", {2, 3}, ramp(6));
  expect_f32(file, "parameter", {4}, ramp(4));
  expect_f32(file, "scalar", {}, {1.5f});
  expect_f32(file, "empty", {0, 4}, {});
  EXPECT_EQ(file.tensors().at("f16").dtype, "F16");
  EXPECT_THAT(elements<uint16_t>(file.data(file.tensors().at("f16"))),
              ElementsAre(0, 0x3800, 0x3c00, 0x3e00));
  EXPECT_EQ(file.tensors().at("bf16").dtype, "BF16");
  EXPECT_THAT(elements<uint16_t>(file.data(file.tensors().at("bf16"))),
              ElementsAre(0, 0x3f00, 0x3f80, 0x3fc0));
  EXPECT_EQ(file.tensors().at("tied").begin_bytes, file.tensors().at("weight").begin_bytes);
}

INSTANTIATE_TEST_SUITE_P(Files, StateDicts, ::testing::Values("state_dict.pt", "state_dict_4.pt"));

TEST(TorchFile, ReadsEveryType) {
  const TorchFile file = open_golden("every_type.pt");
  std::map<std::string, std::pair<std::string, size_t>> types;
  for (const auto& [key, value] : file.root().dict()->items) {
    const TorchTensor& tensor = *value.tensor();
    types[to_string(key)] = {std::string(tensor.dtype), tensor.element_bytes};
    EXPECT_EQ(tensor.data.size(), 3 * tensor.element_bytes);
    EXPECT_EQ(std::memcmp(tensor.data.data() + tensor.element_bytes,
                          tensor.data.data() + 2 * tensor.element_bytes, tensor.element_bytes),
              0);
  }
  const decltype(types) expected{
      {"float32", {"F32", 4}}, {"float16", {"F16", 2}},   {"bfloat16", {"BF16", 2}},
      {"float64", {"F64", 8}}, {"bool", {"BOOL", 1}},     {"uint8", {"U8", 1}},
      {"int8", {"I8", 1}},     {"int16", {"I16", 2}},     {"int32", {"I32", 4}},
      {"int64", {"I64", 8}},   {"complex64", {"C64", 8}}, {"complex128", {"C128", 16}}};
  EXPECT_EQ(types, expected);
  EXPECT_THAT(elements<uint8_t>(file.root().dict()->find("bool")->tensor()->data),
              ElementsAre(0, 1, 1));
}

TEST(TorchFile, TensorsMayLieApart) {
  const TorchFile file = open_golden("not_contiguous.pt");
  const auto tensor = [&](const char* name) { return *file.root().dict()->find(name)->tensor(); };
  EXPECT_THAT(tensor("transposed").shape, ElementsAre(6, 4));
  EXPECT_THAT(tensor("transposed").strides, ElementsAre(1, 6));
  EXPECT_THAT(tensor("columns").strides, ElementsAre(6, 1));
  EXPECT_EQ(tensor("columns").data.size(), 4u * (3 * 6 + 2));
  EXPECT_EQ(tensor("expanded").data.size(), 4u);
  EXPECT_EQ(elements<float>(contiguous_data(tensor("row"), "row").value()), ramp(6, 6.0f));
  for (const char* name : {"transposed", "every_other_row", "columns", "expanded"}) {
    const auto data = contiguous_data(tensor(name), name);
    ASSERT_FALSE(data) << name;
    EXPECT_EQ(data.error().code, ErrorCode::kUnimplemented);
    EXPECT_THAT(data.error().message, HasSubstr("is not contiguous"));
  }
}

TEST(TorchFile, TheByteOrderMayBeMissing) {
  const TorchFile file = open_golden("no_byteorder.pt");
  EXPECT_EQ(elements<float>(file.root().dict()->find("a")->tensor()->data), ramp(3));
}

struct BadGolden {
  const char* file;
  const char* message;
};

class BadGoldens : public ::testing::TestWithParam<BadGolden> {};

TEST_P(BadGoldens, AreNotRead) {
  const auto file = TorchFile::open(golden(GetParam().file));
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(file.error().message, HasSubstr(GetParam().file + std::string(": ")));
  EXPECT_THAT(file.error().message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadGoldens,
    ::testing::Values(BadGolden{"old_form.pt",
                                "saved in PyTorch's old form; save it again with torch.save(..., "
                                "_use_new_zipfile_serialization=True)"},
                      BadGolden{"evil.pt", "pickle refers to posix.system, which is not read"},
                      BadGolden{"evil_4.pt", "pickle refers to posix.system, which is not read"},
                      BadGolden{"module.pt",
                                "refers to torch.nn.modules.activation.ReLU, which is not read"},
                      BadGolden{"big_endian.pt", "saved on a big-endian machine"},
                      BadGolden{"compressed.pt", "compressed, which is not read"}));

std::string parse_error(const std::vector<ZipEntryBytes>& entries) {
  const std::string bytes = zip_bytes(entries);
  const auto value = parse_torch_file(std::as_bytes(std::span(bytes)), "w.pt");
  EXPECT_FALSE(value);
  if (value) return "";
  EXPECT_EQ(value.error().code, ErrorCode::kDataLoss);
  return value.error().message;
}

TEST(TorchFile, ErrorsOfTheZip) {
  const std::string none = pickles::whole("N");
  EXPECT_THAT(parse_error({}), HasSubstr("w.pt: a zip file without a data.pkl"));
  EXPECT_THAT(parse_error({{.name = "data.pkl", .data = none}}), HasSubstr("without a data.pkl"));
  EXPECT_THAT(parse_error({{.name = "a/b/data.pkl", .data = none}}), HasSubstr("without a data"));
  EXPECT_THAT(
      parse_error({{.name = "a/data.pkl", .data = none}, {.name = "b/data.pkl", .data = none}}),
      HasSubstr("more than one data.pkl"));
  EXPECT_THAT(
      parse_error({{.name = "a/data.pkl", .data = none}, {.name = "a/byteorder", .data = "?"}}),
      HasSubstr("byteorder: expected \"little\""));
}

TEST(TorchFile, AStorageIsOfTheSameFile) {
  const std::string pickle = pickles::whole(pickles::tensor(
      pickles::storage("ByteStorage", "0", 3), 1, pickles::sizes({2}), pickles::sizes({1})));
  EXPECT_THAT(
      parse_error({{.name = "a/data.pkl", .data = pickle}, {.name = "b/data/0", .data = "xyz"}}),
      HasSubstr("storage 0 is missing"));
  const std::string bytes =
      zip_bytes({{.name = "a/data.pkl", .data = pickle}, {.name = "a/data/0", .data = "xyz"}});
  const auto value = parse_torch_file(std::as_bytes(std::span(bytes)), "w.pt");
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_THAT(elements<char>(value->tensor()->data), ElementsAre('y', 'z'));
}

TEST(TorchWeights, AreTensorsByName) {
  const ScratchDirectory scratch;
  const auto error_with = [&](const std::string& value) {
    scratch.write("w.bin", zip_bytes({{.name = "w/data.pkl", .data = pickles::whole(value)}}));
    const auto file = open_torch_weights(scratch.path() / "w.bin");
    EXPECT_FALSE(file);
    return file ? "" : file.error().message;
  };
  EXPECT_THAT(error_with("]"), HasSubstr("w.bin: expected a dict of tensors, found a list"));
  EXPECT_THAT(error_with(pickles::dict(pickles::text("epoch"), "K\x03")),
              HasSubstr("w.bin: epoch: expected a tensor with a name, found an integer"));
  EXPECT_THAT(error_with(pickles::dict("K\x03", "N")), HasSubstr("w.bin: 3: expected a tensor"));
  const auto apart = open_torch_weights(golden("not_contiguous.pt"));
  ASSERT_FALSE(apart);
  EXPECT_THAT(apart.error().message,
              HasSubstr("not_contiguous.pt: transposed: shape [6, 4] with strides [1, 6] is not "
                        "contiguous; save it again after .contiguous()"));
}

}  // namespace
}  // namespace pregate::model
