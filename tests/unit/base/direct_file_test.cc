#include "base/direct_file.h"

#include <fstream>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "base/file_identity.h"
#include "base/mapped_file.h"
#include "tests/support/scratch_directory.h"

namespace pregate {
namespace {

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Numbers, so that no two parts are alike.
std::string content(size_t length) {
  std::string text;
  for (size_t i = 0; text.size() < length; ++i) text += std::to_string(i) + ",";
  text.resize(length);
  return text;
}

TEST(DirectFile, ReadsAnyRange) {
  const ScratchDirectory directory;
  const std::string text = content(3 * 4096 + 123);
  directory.write("file", text);
  const auto file = DirectFile::open(directory.path() / "file");
  ASSERT_TRUE(file) << file.error().message;
  for (const size_t offset : {0, 1, 511, 4095, 4096, 4097, 9000, 3 * 4096 + 100}) {
    for (const size_t length : {0, 1, 100, 4096, 5000}) {
      if (offset + length > text.size()) continue;
      const auto bytes = file->read(offset, length);
      ASSERT_TRUE(bytes) << bytes.error().message;
      EXPECT_EQ(text_of(bytes->bytes()), text.substr(offset, length)) << offset << ' ' << length;
    }
  }
}

TEST(DirectFile, ThreadsReadAtOnce) {
  const ScratchDirectory directory;
  const std::string text = content(100'000);
  directory.write("file", text);
  const auto file = DirectFile::open(directory.path() / "file");
  ASSERT_TRUE(file);
  std::vector<std::jthread> threads;
  for (size_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (size_t i = thread; i < 300; i += 3) {
        EXPECT_EQ(text_of(file->read(i * 300, 700)->bytes()), text.substr(i * 300, 700));
      }
    });
  }
}

TEST(DirectFile, AnEndThatComesTooEarlyIsAnError) {
  const ScratchDirectory directory;
  directory.write("file", content(5000));
  const auto file = DirectFile::open(directory.path() / "file");
  ASSERT_TRUE(file);
  EXPECT_TRUE(file->read(4000, 1000));
  for (const size_t offset : {4001, 5000, 100'000}) {
    const auto bytes = file->read(offset, 1000);
    ASSERT_FALSE(bytes) << offset;
    EXPECT_EQ(bytes.error().code, ErrorCode::kDataLoss);
    EXPECT_NE(bytes.error().message.find("file: ends at byte"), std::string::npos)
        << bytes.error().message;
  }
}

TEST(DirectFile, ErrorsNameThePath) {
  const auto missing = DirectFile::open("/no/such/file");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("/no/such/file"), std::string::npos);
  const ScratchDirectory directory;
  const auto folder = DirectFile::open(directory.path());
  if (folder) {
    EXPECT_FALSE(folder->read(0, 1));
  }
}

/// /proc has no direct reads.
TEST(DirectFile, WhereTheFileSystemHasNoDirectReadsItReadsAllTheSame) {
  const auto file = DirectFile::open("/proc/self/stat");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_FALSE(file->is_direct());
  EXPECT_TRUE(file->read(0, 10));
}

TEST(FileIdentity, ChangesWithTheFile) {
  const ScratchDirectory directory;
  const auto path = directory.path() / "file";
  directory.write("file", "one");
  const auto before = identify_file(path);
  ASSERT_TRUE(before);
  EXPECT_EQ(*identify_file(path), *before);
  EXPECT_EQ(MappedFile::open(path)->identity(), *before);

  directory.write("file", "longer");
  EXPECT_NE(*identify_file(path), *before);

  directory.write("other", "one");
  std::filesystem::last_write_time(directory.path() / "other",
                                   std::filesystem::last_write_time(path));
  std::filesystem::rename(directory.path() / "other", path);
  EXPECT_NE(identify_file(path)->inode, before->inode);

  std::filesystem::remove(path);
  EXPECT_EQ(identify_file(path).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace pregate
