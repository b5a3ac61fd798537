// `pregate bench lookahead`, a command that is part of another.
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>

#include "tests/support/scratch_directory.h"
#include "tests/unit/cli/command_line.h"

namespace pregate::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class BenchLookahead : public CommandLineTest {
 protected:
  /// A model with three layers of eight experts, and a text's trace.
  void make_model_and_trace() {
    std::ofstream(text_) << std::string(200, 'a') << std::string(200, 'b');
    ASSERT_EQ(run({"make-model", "--out", model_, "--family", "qwen3_moe", "--layers", "3",
                   "--experts", "8", "--top-k", "2"}),
              0)
        << errors_;
    ASSERT_EQ(run({"trace", "--model", model_, "--window-tokens", "40", "--log-level", "off",
                   "--out", directory_.path(), text_}),
              0)
        << errors_;
  }
  int bench(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"bench", "lookahead", "--model", model_, "--window-tokens",
                                         "40", "--context-tokens", "8", "--log-level", "off"});
    return run(arguments);
  }
  /// The line of the table that begins so.
  std::string line(const std::string& part, const std::string& beginning) const {
    const size_t table = output_.find(part);
    if (table == std::string::npos) return "no table " + part;
    const size_t at = output_.find("\n" + beginning + " ", table);
    return at == std::string::npos ? "" : output_.substr(at + 1, output_.find('\n', at + 1) - at);
  }

  const ScratchDirectory directory_;
  const std::string model_ = directory_.path() / "model";
  const std::string text_ = directory_.path() / "text.txt";
  const std::string trace_ = directory_.path() / "text.safetensors";
};

TEST_F(BenchLookahead, MeasuresEachSourceLayerByLayer) {
  make_model_and_trace();
  ASSERT_EQ(bench({"--accuracy", "--batches", "1,2", "--windows", "3", "--replay", trace_, text_}),
            0)
      << errors_;
  EXPECT_THAT(output_, HasSubstr("8 experts per layer, 2 per token; 3 windows of 40 tokens"));
  EXPECT_THAT(output_,
              AllOf(HasSubstr("prefill 1 x 8, 3 steps"), HasSubstr("decode 1 x 1, 96 steps"),
                    HasSubstr("prefill 2 x 8, 1 steps"), HasSubstr("decode 2 x 1, 32 steps")));
  for (const char* source : {"next_gate", "transitions", "replay"}) {
    EXPECT_THAT(output_, HasSubstr(source));
  }
  // One token uses two of eight experts; next_gate has no guess for the first layer; what was
  // recorded is right.
  EXPECT_THAT(line("decode 1 x 1", "0"), AllOf(HasSubstr("  0.250  "), HasSubstr("  -     0.000")));
  for (const char* part : {"prefill 1 x 8", "decode 1 x 1", "prefill 2 x 8", "decode 2 x 1"}) {
    for (const char* layer : {"0", "1", "2", "all"}) {
      EXPECT_THAT(line(part, layer), HasSubstr("1.000     1.000\n")) << part << ' ' << layer;
    }
  }
}

TEST_F(BenchLookahead, ComparesEvictionPolicies) {
  make_model_and_trace();
  ASSERT_EQ(
      bench({"--hit-ratio", "--batches", "2", "--budgets", "50,100", "--requests", "40", trace_}),
      0)
      << errors_;
  for (const char* name : {"decode-first", "expert-aware"}) EXPECT_THAT(output_, HasSubstr(name));
  EXPECT_THAT(output_, HasSubstr("belady: all | published: random, lru, belady"));
  EXPECT_THAT(output_, HasSubstr("3 layers of 8 experts, 2 at once, 80 steps"));
  // Once all are in memory, nobody evicts anything.
  std::istringstream row(line("3 layers of 8", "100 %").substr(5));
  std::string first, ratio;
  row >> first;
  for (size_t i = 1; i < 6; ++i) {
    row >> ratio;
    EXPECT_EQ(ratio, first);
  }
  ASSERT_EQ(bench({"--hit-ratio", "--requests", "40", text_}), 0) << errors_;
  EXPECT_THAT(output_, HasSubstr("Traces: left out, none is among the texts"));
}

TEST_F(BenchLookahead, MeasuresSpeedWithAPartOfTheExperts) {
  make_model_and_trace();
  ASSERT_EQ(bench({"--speed", "--batches", "2", "--budgets", "50", "--repeats", "1", "--windows",
                   "4", text_}),
            0)
      << errors_;
  EXPECT_THAT(output_, HasSubstr("24 experts of"));
  EXPECT_THAT(output_, HasSubstr("50 % in memory"));
  for (const char* name :
       {"  on demand, lru ", "  on demand, lfu ", "  look-ahead ", "  all known "}) {
    EXPECT_THAT(output_, HasSubstr(name));
  }
  EXPECT_EQ(bench({"--speed", "--batches", "2", "--budgets", "101", text_}), 1);
  EXPECT_THAT(errors_, HasSubstr("--budgets 101: expected at most 100 percent"));
}

TEST_F(BenchLookahead, ComparesBatchPolicies) {
  make_model_and_trace();
  ASSERT_EQ(bench({"--batching", "--requests", "40", text_}), 0) << errors_;
  EXPECT_THAT(output_, AllOf(HasSubstr("expert-aware against decode-first: mean"),
                             HasSubstr("expert-aware against prefill-first: mean"),
                             HasSubstr("has no pre-gating router")));
}

TEST_F(BenchLookahead, IsNamedWithTheCommandItIsPartOf) {
  EXPECT_EQ(run({"bench", "lookahead", "--help"}), 0);
  EXPECT_THAT(output_, AllOf(HasSubstr("pregate bench lookahead"), HasSubstr("--accuracy")));
  EXPECT_EQ(run({"bench", "lookahead", "x.txt"}), 2);
  EXPECT_THAT(errors_, AllOf(StartsWith("pregate: bench lookahead: --model is needed"),
                             HasSubstr("See pregate bench lookahead --help")));
  EXPECT_EQ(run({"bench", "lookahead", "--model", "m", "x.txt", "--batchse", "1"}), 2);
  EXPECT_THAT(errors_,
              HasSubstr("bench lookahead --batchse: not expected; did you mean --batches"));
  EXPECT_EQ(run({"lookahead", "--model", "m"}), 2);
  EXPECT_THAT(errors_, StartsWith("pregate: lookahead: no such command"));
  EXPECT_EQ(run({"bench", "--help"}), 0);
  EXPECT_THAT(output_, AllOf(HasSubstr("--decode-steps"), HasSubstr("lookahead")));
}

TEST_F(BenchLookahead, HasASectionOfItsOwnInConfigFiles) {
  const std::string config = directory_.path() / "pregate.toml";
  const auto run_with = [&](const std::string& content) {
    std::ofstream(config) << content;
    return run({"bench", "lookahead", "--model", "m", "--config", config, "x.txt"});
  };
  EXPECT_EQ(run_with("[bench-lookahead]\nbatches = 'x'\n"), 1);
  EXPECT_THAT(errors_, HasSubstr("--batches x: expected numbers"));
  EXPECT_EQ(run_with("[bench]\nbatches = 'x'\n[bench-lookahead]\nbatches = 7\n"), 2);
  EXPECT_THAT(errors_, HasSubstr("batches: expected text in quotes, got 7"));
  EXPECT_EQ(run_with("[lookahead]\nbatches = '1'\n"), 2);
  EXPECT_THAT(errors_, HasSubstr("[lookahead] is no command"));
}

}  // namespace
}  // namespace pregate::cli
