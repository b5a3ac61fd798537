#include "coordinator/scheduling/stop_scanner.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::coordinator {
namespace {

std::string scan(StopScanner& scanner, std::initializer_list<const char*> pieces) {
  std::string out;
  for (const char* piece : pieces) out += scanner.push(piece);
  return out;
}

TEST(StopScanner, WithoutStopsTextPassesAtOnce) {
  StopScanner scanner({}, false);
  EXPECT_EQ(scanner.push("abc"), "abc");
}

TEST(StopScanner, HoldsBackWhatMayBecomeAStop) {
  StopScanner scanner({"###"}, false);
  EXPECT_EQ(scanner.push("a#"), "a");
  EXPECT_EQ(scanner.push("#b"), "##b");
  EXPECT_EQ(scanner.push("##"), "");
  EXPECT_EQ(scanner.push("#c"), "");
  EXPECT_EQ(scanner.matched(), "###");
  EXPECT_EQ(scanner.push("more"), "");
}

TEST(StopScanner, TheEarliestStopWins) {
  StopScanner scanner({"later", "now"}, false);
  EXPECT_EQ(scan(scanner, {"it is now or later"}), "it is ");
  EXPECT_EQ(scanner.matched(), "now");
}

TEST(StopScanner, CanIncludeTheStop) {
  StopScanner scanner({"end"}, true);
  EXPECT_EQ(scan(scanner, {"the e", "nd of it"}), "the end");
}

TEST(StopScanner, FinishGivesBackWhatWasHeld) {
  StopScanner scanner({"stop"}, false);
  EXPECT_EQ(scan(scanner, {"do not sto"}), "do not ");
  EXPECT_EQ(scanner.finish(), "sto");
}

// Cutting the text into pieces in another way never changes what comes out.
TEST(StopScanner, DoesNotDependOnHowTextIsCut) {
  Random random(4);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (size_t i = random.next_below(12); i > 0; --i) text += "ab"[random.next_below(2)];
    const std::vector<std::string> stops = {"abab", "bba"};
    StopScanner whole(stops, false), pieces(stops, false);
    std::string at_once = whole.push(text);
    at_once += whole.finish();
    std::string in_pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random.next_below(3);
      in_pieces += pieces.push(text.substr(at, length));
      at += length;
    }
    in_pieces += pieces.finish();
    ASSERT_EQ(in_pieces, at_once) << text;
    ASSERT_EQ(pieces.matched(), whole.matched()) << text;
  }
}

}  // namespace
}  // namespace pregate::coordinator
