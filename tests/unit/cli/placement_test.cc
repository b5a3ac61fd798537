// `pregate placement`: a file from traces that --placement reads.
#include <gmock/gmock.h>

#include "coordinator/placement/placement_file.h"
#include "router/trace.h"
#include "tests/support/scratch_directory.h"
#include "tests/unit/cli/command_line.h"

namespace pregate::cli {
namespace {

using testing::HasSubstr;

class PlacementCommand : public CommandLineTest {};

/// Tokens of a layer go to experts 0 and 2, or to 1 and 3.
router::RoutingTrace trace() {
  router::RoutingTrace trace{.num_experts = 4, .top_k = 2, .layers = {0, 2}};
  trace.tokens.assign(4, 0);
  trace.starts = {0};
  trace.experts = {0, 2, 0, 2, 1, 3, 1, 3, 2, 0, 2, 0, 3, 1, 3, 1};
  trace.gates.assign(16, 0.5f);
  return trace;
}

TEST_F(PlacementCommand, WritesAFileWithExpertsTogether) {
  const ScratchDirectory directory;
  const std::string file = directory.path() / "t.safetensors", out = directory.path() / "p.json";
  ASSERT_TRUE(router::write_trace(file, trace()));
  ASSERT_EQ(run({"placement", "--workers", "2", "--out", out, file}), 0) << errors_;
  EXPECT_THAT(output_, HasSubstr("neighbours       1.000   2.000   2.000   2.000\n"));
  EXPECT_THAT(output_, HasSubstr("together         1.000   1.000   1.000   1.000\n"));
  const coordinator::PlacementShape shape{.layers = {LayerIdx(0), LayerIdx(2)}, .num_experts = 4};
  const auto placement = coordinator::read_placement(
      out, 1, shape, coordinator::numbered_workers({WorkerId(1), WorkerId(2)}));
  ASSERT_TRUE(placement) << placement.error().message;
  for (const LayerIdx layer : shape.layers) {
    EXPECT_EQ(placement->workers(layer, ExpertId(0)).front(),
              placement->workers(layer, ExpertId(2)).front());
    EXPECT_NE(placement->workers(layer, ExpertId(0)).front(),
              placement->workers(layer, ExpertId(1)).front());
  }
}

TEST_F(PlacementCommand, SaysWhatIsWrong) {
  const ScratchDirectory directory;
  const std::string file = directory.path() / "t.safetensors";
  ASSERT_TRUE(router::write_trace(file, trace()));
  EXPECT_EQ(run({"placement", "--workers", "5", file}), 1);
  EXPECT_THAT(errors_, HasSubstr("--workers 5: a layer has 4 experts"));
  EXPECT_EQ(run({"placement", file}), 2);
  EXPECT_THAT(errors_, HasSubstr("--workers is needed"));
  const std::string nowhere = directory.path() / "no" / "p.json";
  EXPECT_EQ(run({"placement", "--workers", "2", "--out", nowhere, file}), 1);
  EXPECT_THAT(errors_, HasSubstr("--out " + nowhere));
}

}  // namespace
}  // namespace pregate::cli
