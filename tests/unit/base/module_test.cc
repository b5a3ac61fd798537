#include "base/module.h"

#include <cstdlib>

#include <gmock/gmock.h>

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr ModuleKind kKind{.name = "TEST",
                           .file_name = "pregate_test.so",
                           .variable = "PREGATE_TEST_MODULE",
                           .entry = "pregate_test_module",
                           .needs = "the test toolkit",
                           .head = {1, "this build"}};

// What is loaded and refused: tests/unit/compute/cuda/loader_test.cc.
TEST(Module, IsLookedForBesideTheProgramUnlessToldOtherwise) {
  ::unsetenv(kKind.variable);
  const auto paths = module_paths(kKind);
  ASSERT_EQ(paths.size(), 2U);
  const auto program = std::filesystem::read_symlink("/proc/self/exe");
  EXPECT_EQ(paths[0], program.parent_path() / "pregate_test.so");
  EXPECT_THAT(paths[1].string(), EndsWith("/lib/pregate/pregate_test.so"));
  ::setenv(kKind.variable, "/somewhere/else.so", 1);
  EXPECT_EQ(module_paths(kKind), std::vector<std::filesystem::path>{"/somewhere/else.so"});
  ::unsetenv(kKind.variable);
}

TEST(Module, ThatIsNowhereIsAnErrorThatSaysWhereItWasLookedFor) {
  const auto module = load_module(kKind, {"/no/such/first.so", "/no/such/second.so"});
  ASSERT_FALSE(module);
  EXPECT_EQ(module.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(module.error().message,
              AllOf(HasSubstr("no TEST module: looked for /no/such/first.so, /no/such/second.so"),
                    EndsWith("build pregate where the test toolkit is")));
}

}  // namespace
}  // namespace pregate
