#include "cli/suggest.h"

#include <vector>

#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

const std::vector<std::string> kKnown = {"--port", "--max-model-len", "--model", "--weights"};

TEST(Suggest, FindsSlipsOfTheFingers) {
  EXPECT_EQ(nearest("--prot", kKnown), "--port");  // Two neighbours swapped.
  EXPECT_EQ(nearest("--modle", kKnown), "--model");
  EXPECT_EQ(nearest("--weight", kKnown), "--weights");  // One missing.
  EXPECT_EQ(nearest("--max-modell-len", kKnown), "--max-model-len");
  EXPECT_EQ(nearest("ports", kKnown), "--port");  // Dashes do not count.
  EXPECT_EQ(nearest("max_model_len", kKnown), "--max-model-len");
}

TEST(Suggest, DoesNotGuessWildly) {
  EXPECT_EQ(nearest("--temperature", kKnown), "");
  EXPECT_EQ(nearest("x", kKnown), "");
  EXPECT_EQ(nearest("--port", {}), "");
}

TEST(Suggest, AsksOnlyWhenThereIsAGuess) {
  EXPECT_EQ(did_you_mean("--prot", kKnown), "; did you mean --port?");
  EXPECT_EQ(did_you_mean("--temperature", kKnown), "");
}

}  // namespace
}  // namespace pregate::cli
