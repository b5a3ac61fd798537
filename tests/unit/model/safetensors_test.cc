#include "model/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/model/scratch_checkpoint.h"

namespace pregate::model {
namespace {

using ::testing::HasSubstr;

Result<TensorTable> parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "w.safetensors");
}

TEST(Safetensors, ReadsTypesShapesAndOffsets) {
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                             R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                             R"("empty":{"dtype":"I64","shape":[0,5],"data_offsets":[16,16]}}   )";
  const auto parsed = parse(safetensors_bytes(header, 16));
  ASSERT_TRUE(parsed) << parsed.error().message;
  ASSERT_EQ(parsed->size(), 3u);
  const TensorEntry& b = parsed->at("b");
  EXPECT_EQ(b.dtype, "BF16");
  EXPECT_EQ(b.shape, (std::vector<size_t>{2, 3}));
  EXPECT_EQ(b.begin_bytes, 8 + header.size() + 4);
  EXPECT_EQ(b.end_bytes, 8 + header.size() + 16);
}

struct BadFile {
  const char* name;
  std::string file;
  const char* message;
};

class BadSafetensors : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadSafetensors, IsRefusedWithItsCause) {
  const auto parsed = parse(GetParam().file);
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, ErrorCode::kDataLoss);
  EXPECT_THAT(parsed.error().message, HasSubstr("w.safetensors: "));
  EXPECT_THAT(parsed.error().message, HasSubstr(GetParam().message));
}

std::string one_tensor(const std::string& fields, size_t data_bytes) {
  return safetensors_bytes(R"({"t":{)" + fields + "}}", data_bytes);
}

std::string longer_header_than_file() {
  std::string file = safetensors_bytes("{}", 0);
  file[0] = 100;
  return file;
}

INSTANTIATE_TEST_SUITE_P(
    Headers, BadSafetensors,
    ::testing::Values(
        BadFile{"Empty", "", "too short"}, BadFile{"SevenBytes", "1234567", "too short"},
        BadFile{"HeaderLongerThanFile", longer_header_than_file(), "header of 100 bytes in a file"},
        BadFile{"HeaderBeyondTheLimit", std::string(8, '\xff'), "expected at most"},
        BadFile{"NotJson", safetensors_bytes("{]", 0), "not JSON"},
        BadFile{"NotAnObject", safetensors_bytes("[]", 0), "expected a JSON object"},
        BadFile{"DeepNesting", safetensors_bytes(std::string(5000, '['), 0), "not JSON"},
        BadFile{"InvalidUtf8", safetensors_bytes("{\"\xff\":1}", 0), "not JSON"},
        BadFile{"Metadata", safetensors_bytes(R"({"__metadata__":{"a":1}})", 0), "__metadata__"},
        BadFile{"EntryNoObject", safetensors_bytes(R"({"t":3})", 0), "t: expected an object"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Entries, BadSafetensors,
    ::testing::Values(
        BadFile{"UnknownDtype", one_tensor(R"("dtype":"F7","shape":[1],"data_offsets":[0,4])", 4),
                "t: unknown dtype F7"},
        BadFile{"DtypeMissing", one_tensor(R"("shape":[1],"data_offsets":[0,4])", 4),
                "t: dtype: missing"},
        BadFile{"ShapeMissing", one_tensor(R"("dtype":"F32","data_offsets":[0,4])", 4),
                "t: shape: expected a list"},
        BadFile{"NegativeExtent",
                one_tensor(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])", 4), "t: shape"},
        BadFile{"FractionalExtent",
                one_tensor(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])", 4), "t: shape"},
        BadFile{"OneOffset", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0])", 4),
                "t: data_offsets: expected [begin, end]"},
        BadFile{"OffsetsBackwards",
                one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])", 4),
                "t: data_offsets [4, 0]"},
        BadFile{"Truncated", one_tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])", 15),
                "lie outside the file's 15 bytes of data (is the file truncated?)"},
        BadFile{"BytesDoNotFitShape",
                one_tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,16])", 16),
                "t: 16 bytes do not fit shape [3] of F32"},
        BadFile{"ShapeOverflows",
                one_tensor(R"("dtype":"F32","shape":[4611686018427387904,4611686018427387904],)"
                           R"("data_offsets":[0,0])",
                           0),
                "do not fit shape"},
        BadFile{"HalfAByte", one_tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])", 1),
                "do not fit shape"}),
    [](const auto& test) { return test.param.name; });

std::string two_tensors(const std::string& first, const std::string& second, size_t data_bytes) {
  return safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + first +
                               R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + second +
                               "}}",
                           data_bytes);
}

INSTANTIATE_TEST_SUITE_P(
    Coverage, BadSafetensors,
    ::testing::Values(
        BadFile{"Overlap", two_tensors("[0,8]", "[4,12]", 12), "b: overlaps another tensor"},
        BadFile{"SameBytes", two_tensors("[0,8]", "[0,8]", 8), "b: overlaps another tensor"},
        BadFile{"Gap", two_tensors("[0,8]", "[12,20]", 20), "belong to no tensor"},
        BadFile{"BytesAtTheEnd", two_tensors("[0,8]", "[8,16]", 17), "belong to no tensor"},
        BadFile{"SameName",
                safetensors_bytes(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                  R"("t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                  4),
                "a tensor name occurs twice"},
        BadFile{"SameNameEscaped",
                safetensors_bytes(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                  R"("\u0074":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                  4),
                "a tensor name occurs twice"}),
    [](const auto& test) { return test.param.name; });

TEST(Safetensors, APunctuatedNameIsCountedOnce) {
  const auto parsed =
      parse(safetensors_bytes(R"({"a\":{[,":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_TRUE(parsed->contains("a\":{[,"));
}

}  // namespace
}  // namespace pregate::model
