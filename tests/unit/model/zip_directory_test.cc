#include "model/checkpoint/zip_directory.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "tests/support/scratch_directory.h"
#include "tests/unit/model/zip_bytes.h"

namespace pregate::model {
namespace {

using ::testing::HasSubstr;

Result<ZipDirectory> read_zip(const std::string& file) {
  return read_zip_directory(std::as_bytes(std::span(file)), "w.zip");
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

const std::vector<ZipEntryBytes> kTwo{{.name = "m/data.pkl", .data = "pickle"},
                                      {.name = "m/data/0", .data = "weights"}};

void expect_two(const std::string& file) {
  const auto directory = read_zip(file);
  ASSERT_TRUE(directory) << directory.error().message;
  ASSERT_EQ(directory->size(), 2u);
  EXPECT_EQ(text_of(directory->at("m/data.pkl")), "pickle");
  EXPECT_EQ(text_of(directory->at("m/data/0")), "weights");
}

TEST(ZipDirectory, ReadsStoredEntries) { expect_two(zip_bytes(kTwo)); }

TEST(ZipDirectory, ReadsZip64) { expect_two(zip_bytes(kTwo, {.zip64 = true})); }

TEST(ZipDirectory, SkipsAComment) {
  expect_two(zip_bytes(kTwo, {.comment = "not PK\5\6 the end"}));
  expect_two(zip_bytes(kTwo, {.comment = std::string(65535, 'x')}));
}

TEST(ZipDirectory, AnEmptyZipIsEmpty) {
  const auto directory = read_zip(zip_bytes({}));
  ASSERT_TRUE(directory) << directory.error().message;
  EXPECT_TRUE(directory->empty());
}

/// An entry of 4 GiB and more, most of it a hole, and another behind it.
TEST(ZipDirectory, ReadsBeyondFourGigabytes) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "large.zip";
  constexpr uint64_t kHole = uint64_t{5} << 30;
  const std::string file = zip_bytes(kTwo, {.zip64 = true, .offset_shift = kHole});
  {
    std::ofstream out(path, std::ios::binary);
    out.seekp(std::streamoff(kHole));
    out << file;
  }
  const auto mapped = MappedFile::open(path);
  ASSERT_TRUE(mapped) << mapped.error().message;
  const auto directory = read_zip_directory(mapped->bytes(), "large.zip");
  ASSERT_TRUE(directory) << directory.error().message;
  EXPECT_EQ(text_of(directory->at("m/data/0")), "weights");
  EXPECT_GT(size_t(directory->at("m/data/0").data() - mapped->bytes().data()), kHole);
}

struct BadZip {
  const char* name;
  std::string file;
  ErrorCode code;
  const char* message;
};

class BadZips : public ::testing::TestWithParam<BadZip> {};

TEST_P(BadZips, AreRefusedWithTheirCause) {
  const auto directory = read_zip(GetParam().file);
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().code, GetParam().code);
  EXPECT_THAT(directory.error().message, HasSubstr("w.zip: "));
  EXPECT_THAT(directory.error().message, HasSubstr(GetParam().message));
}

/// A zip with `value` in place of what is `offset` bytes behind the last `signature`.
std::string patched(const char* signature, size_t offset, const std::string& value,
                    const ZipShape& shape = {}) {
  std::string file = zip_bytes(kTwo, shape);
  file.replace(file.rfind(signature) + offset, value.size(), value);
  return file;
}

std::string truncated(size_t bytes) {
  std::string file = zip_bytes(kTwo);
  return file.substr(0, file.size() - bytes);
}

/// Both entries of the central directory lead to the first entry's data.
std::string overlapping() {
  std::string file =
      zip_bytes({{.name = "a", .data = std::string(100, 'x')}, {.name = "b", .data = "y"}});
  const size_t inner = file.find("xxx") + 10;
  const std::string header = file.substr(file.rfind("PK\3\4"), 36);
  file.replace(inner, header.size(), header);
  std::string place(4, '\0');
  std::memcpy(place.data(), &inner, 4);
  return file.replace(file.rfind("PK\1\2") + 42, 4, place);
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadZips,
    ::testing::Values(
        BadZip{"empty", "", ErrorCode::kDataLoss, "no zip file"},
        BadZip{"text", std::string(1000, 'x'), ErrorCode::kDataLoss, "no zip file"},
        BadZip{"truncated", truncated(1), ErrorCode::kDataLoss, "no end record"},
        BadZip{"half", truncated(60), ErrorCode::kDataLoss, "no end record"},
        BadZip{"compressed",
               zip_bytes({{.name = "m/data.pkl", .data = "x", .flags = 0, .method = 8}}),
               ErrorCode::kUnimplemented, "m/data.pkl: compressed, which is not read"},
        BadZip{"encrypted", zip_bytes({{.name = "m/data.pkl", .data = "x", .flags = 1}}),
               ErrorCode::kUnimplemented, "m/data.pkl: encrypted, which is not read"},
        BadZip{"several_disks", zip_bytes(kTwo, {.disk = 1}), ErrorCode::kUnimplemented,
               "several disks"},
        BadZip{"several_disks_zip64", zip_bytes(kTwo, {.zip64 = true, .disk = 1}),
               ErrorCode::kUnimplemented, "several disks"},
        BadZip{"entry_on_another_disk", patched("PK\1\2", 34, "\1"), ErrorCode::kUnimplemented,
               "several disks"},
        BadZip{"shifted", zip_bytes(kTwo, {.offset_shift = 1}), ErrorCode::kDataLoss,
               "does not end where the end record begins"},
        BadZip{"shifted_zip64", zip_bytes(kTwo, {.zip64 = true, .offset_shift = 1}),
               ErrorCode::kDataLoss, "zip64 end record is not where it should be"},
        BadZip{"offset_at_another_entry", patched("PK\1\2", 42, std::string(4, '\0')),
               ErrorCode::kDataLoss, "m/data/0: its data is not where the central directory says"},
        BadZip{"offset_beyond", patched("PK\1\2", 42, "\xff\xff\xff\x7f"), ErrorCode::kDataLoss,
               "not where the central directory says"},
        BadZip{"offset_in_missing_zip64", patched("PK\1\2", 42, "\xff\xff\xff\xff"),
               ErrorCode::kDataLoss, "m/data/0: its sizes are damaged"},
        BadZip{"sizes_beyond", patched("PK\1\2", 20, "\xf0\xff\xff\x7f\xf0\xff\xff\x7f"),
               ErrorCode::kDataLoss, "not where the central directory says"},
        BadZip{"sizes_differ", patched("PK\1\2", 20, "\1"), ErrorCode::kDataLoss,
               "m/data/0: its sizes are damaged"},
        BadZip{"zip64_size_overflows", patched("FB", 8, std::string(16, '\xff'), {.zip64 = true}),
               ErrorCode::kDataLoss, "not where the central directory says"},
        BadZip{"name_beyond", patched("PK\1\2", 28, "\xff\xff"), ErrorCode::kDataLoss,
               "the central directory is damaged"},
        BadZip{"other_local_name", patched("PK\3\4", 30, "n"), ErrorCode::kDataLoss,
               "m/data/0: its data is not where"},
        BadZip{"no_central_signature", patched("PK\1\2", 0, "QK"), ErrorCode::kDataLoss,
               "the central directory is damaged"},
        BadZip{"too_many_entries", patched("PK\5\6", 8, std::string("\3\0\3\0", 4)),
               ErrorCode::kDataLoss, "has 2 entries, though the end record says 3"},
        BadZip{"same_name", zip_bytes({kTwo[0], kTwo[0]}), ErrorCode::kDataLoss,
               "m/data.pkl: occurs twice"},
        BadZip{"overlapping", overlapping(), ErrorCode::kDataLoss, "overlaps another entry"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace pregate::model
