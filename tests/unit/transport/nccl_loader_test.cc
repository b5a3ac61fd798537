#include <cstdlib>

#include <gmock/gmock.h>

#include "transport/nccl/loader.h"

namespace pregate::transport {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(NcclLoader, NamesWhatIsNoDevice) {
  for (const std::string name : {"", "cpu", "cuda:", "cuda:x", "cuda:1x", "0"}) {
    const auto lanes = open_nccl(name);
    ASSERT_FALSE(lanes) << name;
    EXPECT_EQ(lanes.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(lanes.error().message, name + ": expected a CUDA device such as cuda:0");
  }
}

TEST(NcclLoader, SaysWhichModuleIsMissing) {
  ::setenv("PREGATE_NCCL_MODULE", "/no/such/module.so", 1);
  const auto lanes = open_nccl("cuda:1");
  ASSERT_FALSE(lanes);
  EXPECT_EQ(lanes.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(lanes.error().message,
              AllOf(StartsWith("cuda:1: no NCCL module"), HasSubstr("/no/such/module.so"),
                    HasSubstr("the CUDA toolkit with NCCL")));
  EXPECT_THAT(describe_nccl(), StartsWith("no NCCL module"));
  ::unsetenv("PREGATE_NCCL_MODULE");
}

#ifdef REAL_MODULE
/// Whatever this machine has: with a device NCCL carries bytes to itself, without one it says so.
TEST(NcclLoader, TheModuleThatWasBuiltLoads) {
  ::setenv("PREGATE_NCCL_MODULE", REAL_MODULE, 1);
  EXPECT_THAT(describe_nccl(), ::testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  const auto lanes = open_nccl("cuda:0");
  EXPECT_THAT(lanes ? "" : lanes.error().message, AnyOf("", StartsWith("cuda:0: no CUDA driver")));
  ::unsetenv("PREGATE_NCCL_MODULE");
}
#endif

}  // namespace
}  // namespace pregate::transport
