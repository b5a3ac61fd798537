#include "model/tokenizer/utf8.h"

#include <gtest/gtest.h>

namespace pregate::model {
namespace {

TEST(Utf8Test, EncodesAndDecodesTheBoundsOfEachLength) {
  for (const char32_t c :
       {0x0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF}) {
    std::string text;
    append_utf8(c, text);
    EXPECT_TRUE(is_valid_utf8(text));
    EXPECT_EQ(code_point_at(text, 0).value, c);
    EXPECT_EQ(code_point_before(text, text.size()).value, c);
    EXPECT_EQ(code_point_at(text, 0).length_bytes, text.size());
  }
}

TEST(Utf8Test, RepairReplacesEachMaximalPart) {
  // Expected values: Python 3.11, bytes.decode("utf-8", "replace").
  EXPECT_EQ(repair_utf8("a\xC3\xA9z"), "a\xC3\xA9z");
  EXPECT_EQ(repair_utf8("a\xFFz"), "a\uFFFDz");
  EXPECT_EQ(repair_utf8("\xE2\x82"), "\uFFFD");
  EXPECT_EQ(repair_utf8("\xE2\x82z"), "\uFFFDz");
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(repair_utf8("\xC0\xAF"), "\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(repair_utf8("\xF0\x9F\x98z\xF4\x90\x80\x80"), "\uFFFDz\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(repair_utf8("\xF0\x80\x80\x41"), "\uFFFD\uFFFD\uFFFD\x41");
}

TEST(Utf8Test, RepairInPiecesEqualsRepairAtOnce) {
  const std::string bytes = "a\xE2\x82\xAC\xF0\x9F\x98\x80\xE2\x82\xC3\xA9\xF0\x9F";
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    Utf8Repair repair;
    std::string text;
    repair.push(std::string_view(bytes).substr(0, cut), text);
    EXPECT_TRUE(is_valid_utf8(text));
    repair.push(std::string_view(bytes).substr(cut), text);
    repair.finish(text);
    EXPECT_EQ(text, repair_utf8(bytes)) << cut;
  }
}

}  // namespace
}  // namespace pregate::model
