#include "model/checkpoint/unpickler.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/model/pickle_bytes.h"

namespace pregate::model {
namespace {

using namespace pickles;
using ::testing::HasSubstr;

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();

/// There is one storage, "0", of 24 bytes.
Result<TorchValue> read_pickle(const std::string& pickle) {
  static const std::vector<std::byte> storage(24);
  const StorageFinder storages =
      [](std::string_view key) -> std::optional<std::span<const std::byte>> {
    if (key == "0") return storage;
    return std::nullopt;
  };
  return unpickle(std::as_bytes(std::span(pickle)), storages, "mask.pt");
}

/// `value` by itself, which keeps no strings: they would point into the pickle.
TorchValue value_of(const std::string& value) {
  const auto result = read_pickle(whole(value));
  EXPECT_TRUE(result) << result.error().message;
  return result.value_or(TorchValue());
}

TEST(Unpickler, ReadsPlainValues) {
  EXPECT_TRUE(value_of("N").is_none());
  EXPECT_EQ(value_of("\x88").flag(), true);
  EXPECT_EQ(value_of("\x89").flag(), false);
  EXPECT_EQ(value_of("K\xff").integer(), 255);
  EXPECT_EQ(value_of("M\xff\xff").integer(), 65535);
  EXPECT_EQ(value_of("J\xff\xff\xff\xff").integer(), -1);
  EXPECT_EQ(value_of(std::string("\x8a\0", 2)).integer(), 0);
  EXPECT_EQ(value_of("\x8a\x01\x80").integer(), -128);
  EXPECT_EQ(value_of(std::string("\x8a\x02\x80\0", 4)).integer(), 128);
  EXPECT_EQ(value_of(integer(kLargest)).integer(), kLargest);
  EXPECT_EQ(value_of(std::string("G\x3f\xf8\0\0\0\0\0\0", 9)).real(), 1.5);
  EXPECT_EQ(value_of("K\x01").flag(), std::nullopt);
}

TEST(Unpickler, StringsPointIntoThePickle) {
  const std::string pickle = whole(text("residual"));
  const auto value = read_pickle(pickle);
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_EQ(value->text(), "residual");
  EXPECT_EQ(value->text()->data(), pickle.data() + 7);
}

TEST(Unpickler, ReadsContainers) {
  const std::string pickle =
      whole("}(" + text("b") + "](K\x01K\x02" + "e" + "K\x07" + "K\x05\x85u");
  const auto value = read_pickle(pickle);
  ASSERT_TRUE(value) << value.error().message;
  const TorchDict* dict = value->dict();
  ASSERT_NE(dict, nullptr);
  ASSERT_EQ(dict->items.size(), 2u);
  EXPECT_EQ(dict->items[0].first, TorchKey("b"));
  ASSERT_NE(dict->find("b"), nullptr);
  ASSERT_NE(dict->find("b")->list(), nullptr);
  EXPECT_EQ(dict->find("b")->list()->at(1).integer(), 2);
  ASSERT_NE(dict->find(7), nullptr);
  EXPECT_EQ(dict->find(7)->list()->at(0).integer(), 5);
  EXPECT_EQ(dict->find(8), nullptr);
  EXPECT_EQ(dict->find("7"), nullptr);
}

TEST(Unpickler, ASharedContainerIsReadAtBothPlaces) {
  const TorchValue value = value_of(std::string("](]q\0K\x05", 7) + "a" + std::string("h\0e", 3));
  ASSERT_NE(value.list(), nullptr);
  ASSERT_EQ(value.list()->size(), 2u);
  EXPECT_EQ(value.list()->at(0).list(), value.list()->at(1).list());
  EXPECT_EQ(value.list()->at(1).list()->at(0).integer(), 5);
}

TEST(Unpickler, ReadsTensors) {
  const TorchValue value =
      value_of(tensor(storage("FloatStorage", "0", 6), 2, sizes({2, 2}), sizes({2, 1})));
  const TorchTensor* found = value.tensor();
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->dtype, "F32");
  EXPECT_EQ(found->shape, (std::vector<size_t>{2, 2}));
  EXPECT_EQ(found->data.size(), 16u);
  EXPECT_TRUE(found->is_contiguous());
}

TEST(Unpickler, TellsWhatIsContiguous) {
  const auto is_contiguous = [](const std::string& shape, const std::string& strides) {
    return value_of(tensor(storage("ByteStorage", "0", 24), 0, shape, strides))
        .tensor()
        ->is_contiguous();
  };
  EXPECT_TRUE(is_contiguous(sizes({}), sizes({})));
  EXPECT_TRUE(is_contiguous(sizes({1, 3, 1, 2}), sizes({9, 2, 0, 1})));
  EXPECT_TRUE(is_contiguous(sizes({0, 5}), sizes({7, 7})));
  EXPECT_FALSE(is_contiguous(sizes({3, 2}), sizes({1, 3})));
  EXPECT_FALSE(is_contiguous(sizes({3, 2}), sizes({4, 1})));
  EXPECT_FALSE(is_contiguous(sizes({2}), sizes({0})));
}

TEST(Unpickler, LeavesOutAttributesOfAnOrderedDict) {
  const std::string pickle =
      whole(kOrderedDict + text("w") + "Ns" + dict(text("_metadata"), kOrderedDict) + "b");
  const auto value = read_pickle(pickle);
  ASSERT_TRUE(value) << value.error().message;
  ASSERT_EQ(value->dict()->items.size(), 1u);
  EXPECT_EQ(value->dict()->items[0].first, TorchKey("w"));
}

struct BadPickle {
  const char* name;
  std::string pickle;
  ErrorCode code;
  const char* message;
};

class BadPickles : public ::testing::TestWithParam<BadPickle> {};

TEST_P(BadPickles, AreRefusedWithTheirCause) {
  const auto value = read_pickle(GetParam().pickle);
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().code, GetParam().code);
  EXPECT_THAT(value.error().message, HasSubstr("mask.pt: "));
  EXPECT_THAT(value.error().message, HasSubstr(GetParam().message));
}

constexpr auto kNotRead = ErrorCode::kUnimplemented;
constexpr auto kDamaged = ErrorCode::kDataLoss;
constexpr const char* kSystem =
    "mask.pt: pickle refers to os.system, which is not read: only tensors and plain containers are";

INSTANTIATE_TEST_SUITE_P(
    Globals, BadPickles,
    ::testing::Values(
        BadPickle{"global", whole(call(global("os", "system"), tuple({text("true")}))), kNotRead,
                  kSystem},
        BadPickle{"stack_global", whole(call(stack_global("os", "system"), tuple({text("true")}))),
                  kNotRead, kSystem},
        BadPickle{"instance", whole("(" + text("true") + "ios\nsystem\n"), kNotRead, kSystem},
        BadPickle{"instance_of_a_known_class", whole("(icollections\nOrderedDict\n"), kNotRead,
                  "refers to collections.OrderedDict"},
        BadPickle{"dotted_name", whole(stack_global("collections", "OrderedDict.__init__")),
                  kNotRead, "refers to collections.OrderedDict.__init__"},
        BadPickle{"known_name_of_another_module", whole(global("os", "FloatStorage")), kNotRead,
                  "refers to os.FloatStorage"},
        BadPickle{"other_function_of_torch", whole(global("torch._utils", "_rebuild_qtensor")),
                  kNotRead, "refers to torch._utils._rebuild_qtensor"},
        BadPickle{"load_by_name", whole(global("torch", "load")), kNotRead, "torch.load"},
        BadPickle{"control_characters", whole(stack_global("a\n\x1b", "b")), kNotRead,
                  "refers to a??.b, "},
        BadPickle{"long_name", whole(global(std::string(5000, 'm'), "f")), kNotRead, "mmm....f, "},
        BadPickle{"global_without_end",
                  "\x80\x02"
                  "cos\nsystem",
                  kDamaged, "ends in the middle"},
        BadPickle{"global_of_numbers", whole("K\x01K\x02\x93"), kDamaged, "names a global by no"},
        BadPickle{"object", whole("(" + global("collections", "OrderedDict") + "o"), kNotRead,
                  "opcode 0x6f at byte 28"},
        BadPickle{"new_object", whole(global("collections", "OrderedDict") + ")\x81"), kNotRead,
                  "opcode 0x81"},
        BadPickle{"extension", whole("\x82\x01"), kNotRead, "opcode 0x82"},
        BadPickle{"call_of_a_storage_type", whole(call(global("torch", "FloatStorage"), ")")),
                  kNotRead, "calls torch.FloatStorage"},
        BadPickle{"call_of_a_string", whole(call(text("os.system"), ")")), kDamaged,
                  "calls what is no function"},
        BadPickle{"call_with_a_list", whole(call(global("collections", "OrderedDict"), "]")),
                  kDamaged, "without a tuple"},
        BadPickle{"ordered_dict_of_items",
                  whole(call(global("collections", "OrderedDict"), "]\x85")), kDamaged,
                  "makes an OrderedDict of something"},
        BadPickle{"attributes_of_a_dict", whole("}}b"), kDamaged,
                  "sets attributes of what is no OrderedDict"},
        BadPickle{"attributes_of_a_function", whole(global("collections", "OrderedDict") + "}b"),
                  kDamaged, "sets attributes of what is no OrderedDict"},
        BadPickle{"attributes_of_a_tensor",
                  whole(tensor(storage("ByteStorage", "0", 1), 0, ")", ")") + "}b"), kDamaged,
                  "sets attributes of what is no OrderedDict"},
        BadPickle{"attributes_that_are_a_tuple",
                  whole(kOrderedDict + "}}\x86"
                                       "b"),
                  kDamaged, "sets attributes that are no dict"},
        BadPickle{"a_function_as_a_value", whole(global("collections", "OrderedDict") + "\x85"),
                  kNotRead, "a function as a value"},
        BadPickle{"a_class_as_a_value", whole(global("torch", "HalfStorage")), kNotRead,
                  "a class as a value"},
        BadPickle{"a_storage_as_a_value", whole(storage("HalfStorage", "0", 1)), kNotRead,
                  "a storage without a tensor"}),
    [](const auto& test) { return std::string(test.param.name); });

std::string bytes_tensor(const std::string& shape, const std::string& strides, int64_t offset = 0) {
  return whole(tensor(storage("ByteStorage", "0", 20), offset, shape, strides));
}

std::string rebuilt(std::initializer_list<std::string> arguments) {
  return whole(call(global("torch._utils", "_rebuild_tensor_v2"), tuple(arguments)));
}

const std::string kStorage = storage("ByteStorage", "0", 20);

INSTANTIATE_TEST_SUITE_P(
    Tensors, BadPickles,
    ::testing::Values(
        BadPickle{"missing_storage", whole(storage("ByteStorage", "1", 1)), kDamaged,
                  "storage 1 is missing"},
        BadPickle{"small_storage", whole(storage("FloatStorage", "0", 7)), kDamaged,
                  "storage 0 has 24 bytes, too few for 7 x F32"},
        BadPickle{"negative_storage", whole(storage("FloatStorage", "0", -1)), kDamaged,
                  "a persistent id of another form"},
        BadPickle{"overflowing_storage", whole(storage("ComplexDoubleStorage", "0", kLargest)),
                  kDamaged, "too few for"},
        BadPickle{"id_that_is_a_string", whole(text("0") + "Q"), kDamaged, "persistent id"},
        BadPickle{"id_of_another_kind",
                  whole(tuple({text("module"), global("torch", "HalfStorage"), text("0"),
                               text("cpu"), integer(1)}) +
                        "Q"),
                  kDamaged, "persistent id"},
        BadPickle{"id_without_a_type",
                  whole(tuple({text("storage"), text("torch.HalfStorage"), text("0"), text("cpu"),
                               integer(1)}) +
                        "Q"),
                  kDamaged, "persistent id"},
        BadPickle{"beyond_the_storage", bytes_tensor(sizes({5, 5}), sizes({5, 1})), kDamaged,
                  "a tensor of U8, shape [5, 5], strides [5, 1], offset 0 does not fit its storage "
                  "of 20 bytes"},
        BadPickle{"strides_beyond", bytes_tensor(sizes({3, 2}), sizes({10, 1})), kDamaged,
                  "does not fit"},
        BadPickle{"offset_beyond", bytes_tensor(sizes({20}), sizes({1}), 1), kDamaged,
                  "offset 1 does not fit"},
        BadPickle{"offset_of_an_empty_one_beyond", bytes_tensor(sizes({0}), sizes({1}), 21),
                  kDamaged, "does not fit"},
        BadPickle{"negative_offset", bytes_tensor(sizes({1}), sizes({1}), -1), kDamaged,
                  "without a storage or offset"},
        BadPickle{"overflowing_offset",
                  whole(tensor(storage("DoubleStorage", "0", 3), kLargest, ")", ")")), kDamaged,
                  "does not fit"},
        BadPickle{"negative_size", bytes_tensor(sizes({-1}), sizes({1})), kDamaged,
                  "shape of a tensor: expected numbers from 0"},
        BadPickle{"negative_stride", bytes_tensor(sizes({2}), sizes({-1})), kDamaged,
                  "strides of a tensor: expected numbers from 0"},
        BadPickle{"overflowing_shape", bytes_tensor(sizes({kLargest, kLargest}), sizes({0, 0})),
                  kDamaged, "does not fit"},
        BadPickle{"overflowing_stride", bytes_tensor(sizes({3}), sizes({kLargest})), kDamaged,
                  "does not fit"},
        BadPickle{"overflowing_strides",
                  bytes_tensor(sizes({2, 2, 2}), sizes({kLargest, kLargest, kLargest})), kDamaged,
                  "does not fit"},
        BadPickle{"fewer_strides", bytes_tensor(sizes({1, 1}), sizes({1})), kDamaged,
                  "differ in length"},
        BadPickle{"shape_that_is_a_list", bytes_tensor("]", ")"), kDamaged, "expected a tuple"},
        BadPickle{"size_that_is_a_bool", bytes_tensor("\x88\x85", sizes({1})), kDamaged,
                  "expected numbers from 0"},
        BadPickle{"too_many_dimensions", bytes_tensor("(" + std::string(130, 'N') + "t", ")"),
                  kDamaged, "at most 64 numbers"},
        BadPickle{"no_arguments", rebuilt({}), kDamaged, "other things than a storage's"},
        BadPickle{"no_storage", rebuilt({"N", "K\x01", ")", ")", "\x89", kOrderedDict}), kDamaged,
                  "without a storage"},
        BadPickle{"metadata", rebuilt({kStorage, "K\x01", ")", ")", "\x89", kOrderedDict, "}"}),
                  kNotRead, "conjugated or negated"},
        BadPickle{"parameter_of_nothing",
                  whole(call(global("torch._utils", "_rebuild_parameter"),
                             tuple({"N", "\x88", kOrderedDict}))),
                  kDamaged, "a parameter that is made of no tensor"}),
    [](const auto& test) { return std::string(test.param.name); });

std::string repeated(const std::string& bytes, size_t times) {
  std::string result;
  for (size_t i = 0; i < times; ++i) result += bytes;
  return result;
}

/// Lists of two references to the list before: 2^30 values in 400 bytes.
std::string doubling() {
  std::string pickle = "(]\x94";
  for (char i = 0; i < 30; ++i) pickle += std::string("](h") + i + "h" + i + "e\x94";
  return whole(pickle + "t");
}

INSTANTIATE_TEST_SUITE_P(
    Forms, BadPickles,
    ::testing::Values(
        BadPickle{"empty", "", kDamaged, "ends in the middle"},
        BadPickle{"no_protocol", "N.", kDamaged, "no protocol number"},
        BadPickle{"protocol_1", "\x80\x01N.", kNotRead, "protocol 1, which is not read: 2 to 5"},
        BadPickle{"protocol_6", "\x80\x06N.", kNotRead, "protocol 6"},
        BadPickle{"no_end", "\x80\x02N", kDamaged, "ends in the middle"},
        BadPickle{"truncated_text",
                  "\x80\x02X\x05\xff\xff\xff"
                  "abc.",
                  kDamaged, "ends in the middle"},
        BadPickle{"truncated_long_text", "\x80\x04\x8d" + std::string(8, '\xff') + "abc.", kDamaged,
                  "ends in the middle"},
        BadPickle{"nothing", "\x80\x02.", kDamaged, "ends with 0 values"},
        BadPickle{"two_values", whole("NN"), kDamaged, "ends with 2 values"},
        BadPickle{"open_mark", whole("N("), kDamaged, "1 marks"},
        BadPickle{"bytes_behind_the_end", whole("N") + "N", kDamaged, "1 bytes left"},
        BadPickle{"unknown_opcode", whole("\xff"), kNotRead, "opcode 0xff at byte 2"},
        BadPickle{"old_integer", whole("I1\n"), kNotRead, "opcode 0x49"},
        BadPickle{"bytes_object", whole("C\x01x"), kNotRead, "opcode 0x43"},
        BadPickle{"long_integer", whole("\x8a\x09" + std::string(9, '\x01')), kNotRead,
                  "integer of 9 bytes"},
        BadPickle{"empty_stack", whole("\x85"), kDamaged, "takes more from its stack"},
        BadPickle{"below_the_mark", whole("N(\x85t"), kDamaged, "takes more from its stack"},
        BadPickle{"no_mark", whole("Nt"), kDamaged, "has no mark"},
        BadPickle{"append_to_a_tuple", whole(")Na"), kDamaged, "appends to what is no list"},
        BadPickle{"append_to_nothing", whole("Na"), kDamaged, "takes more from its stack"},
        BadPickle{"items_of_a_list", whole("]NNs"), kDamaged, "sets items of what is no dict"},
        BadPickle{"key_without_a_value", whole("}(Nu"), kDamaged, "a key without a value"},
        BadPickle{"memo_missing", whole("h\x01"), kDamaged, "memo number that is not there"},
        BadPickle{"memo_gap", whole("Nq\x01"), kDamaged, "leaves out a memo number"},
        BadPickle{"memo_far", whole("Nr\xff\xff\xff\xff"), kDamaged, "leaves out a memo number"},
        BadPickle{"memo_of_nothing", whole("\x94N"), kDamaged, "takes more from its stack"},
        BadPickle{"list_in_itself", whole(std::string("]q\0h\0a", 6)), kDamaged, "contains itself"},
        BadPickle{"dict_in_a_tuple_in_itself",
                  whole(std::string("}q\0", 3) + text("k") + std::string("h\0\x85s", 4)), kDamaged,
                  "contains itself"},
        BadPickle{"deep_lists", whole(std::string(65, ']') + std::string(64, 'a')), kDamaged,
                  "nested more than 64 deep"},
        BadPickle{"deep_tuples", whole(")" + std::string(1000000, '\x85')), kDamaged,
                  "nested more than 64 deep"},
        BadPickle{"doubling", doubling(), kDamaged, "more than 4000000 values"},
        BadPickle{"high_stack", whole(std::string(2000000, 'N')), kDamaged,
                  "too much on its stack"},
        BadPickle{"many_marks", whole(std::string(2000000, '(')), kDamaged, "too many marks"},
        BadPickle{"key_twice", whole("}(" + repeated(text("k") + "N", 2) + "u"), kDamaged,
                  "key k occurs twice"},
        BadPickle{"key_that_is_a_float", whole(dict("G" + std::string(8, '\0'), "N")), kNotRead,
                  "a key that is no string and no integer"},
        BadPickle{"key_that_is_a_bool", whole(dict("\x88", "N")), kNotRead, "a key that is no"}),
    [](const auto& test) { return std::string(test.param.name); });

// No parameter of BadPickles: every run of the program would make and copy it.
TEST(Unpickler, RefusesAHugePickle) {
  const auto value = read_pickle(whole(std::string(kMaxPickleBytes, 'N')));
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().code, kDamaged);
  EXPECT_THAT(value.error().message, HasSubstr("mask.pt: "));
  EXPECT_THAT(value.error().message, HasSubstr("expected at most 33554432"));
}

TEST(Unpickler, ReadsTheDeepestContainers) {
  EXPECT_NE(value_of(std::string(64, ']') + std::string(63, 'a')).list(), nullptr);
}

}  // namespace
}  // namespace pregate::model
