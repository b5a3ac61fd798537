#include "cli/quantity.h"

#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

using std::chrono::milliseconds;

TEST(Quantity, ReadsSizes) {
  EXPECT_EQ(parse_bytes("0").value(), 0U);
  EXPECT_EQ(parse_bytes("4096").value(), 4096U);
  EXPECT_EQ(parse_bytes("512M").value(), uint64_t{512} << 20);
  EXPECT_EQ(parse_bytes("1.5G").value(), uint64_t{3} << 29);
  EXPECT_EQ(parse_bytes("2 TiB").value(), uint64_t{2} << 40);
  EXPECT_EQ(parse_bytes("8KB").value(), 8192U);
  EXPECT_EQ(parse_bytes("7B").value(), 7U);
}

TEST(Quantity, RefusesWhatIsNoSize) {
  for (const char* text : {"", "M", "-1", "1X", "1GG", "inf", "nan", "1e3", "9000000000G", "1 2"}) {
    const auto parsed = parse_bytes(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(
        parsed.error().message,
        fmt::format("expected a size such as 4096, 512M or 1.5G (K, M, G, T), got \"{}\"", text));
  }
}

TEST(Quantity, WritesSizesAsTheyAreRead) {
  for (const char* text : {"0", "1", "1023", "1K", "1536M", "3G", "1T"}) {
    EXPECT_EQ(format_bytes(parse_bytes(text).value()), text);
  }
}

TEST(Quantity, DescribesSizesForPeople) {
  EXPECT_EQ(describe_bytes(1023), "1023 B");
  EXPECT_EQ(describe_bytes(1536), "1.5 KiB");
  EXPECT_EQ(describe_bytes(uint64_t{7} << 30), "7.0 GiB");
}

TEST(Quantity, ReadsTimes) {
  EXPECT_EQ(parse_duration("250ms").value(), milliseconds(250));
  EXPECT_EQ(parse_duration("1.5s").value(), milliseconds(1500));
  EXPECT_EQ(parse_duration("3").value(), milliseconds(3000));
  EXPECT_EQ(parse_duration("2m").value(), milliseconds(120'000));
  EXPECT_EQ(parse_duration("1h").value(), milliseconds(3'600'000));
}

TEST(Quantity, RefusesWhatIsNoTime) {
  for (const char* text : {"", "s", "-1s", "1d", "ten"}) {
    const auto parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().message,
              fmt::format("expected a time such as 250ms, 1.5s, 2m or 1h, got \"{}\"", text));
  }
}

TEST(Quantity, WritesTimesAsTheyAreRead) {
  for (const char* text : {"0s", "1ms", "1500ms", "2s", "90s", "3m", "1h"}) {
    EXPECT_EQ(format_duration(parse_duration(text).value()), text);
  }
}

}  // namespace
}  // namespace pregate::cli
