#include <algorithm>

#include "tests/conformance/compute/fixture.h"

namespace pregate::compute {
namespace {

TEST(Registry, MakesWhatIsAvailable) {
  ThreadPool threads(1);
  const auto names = available_backends();
  for (const auto& name : names) EXPECT_EQ(make_backend(name, threads).value()->name(), name);
  EXPECT_TRUE(std::ranges::count(names, "cpu/generic"));
  EXPECT_TRUE(std::ranges::count(names, "reference"));
}

TEST(Registry, CpuIsTheFastestThatIsAvailable) {
  ThreadPool threads(1);
  EXPECT_EQ(make_backend("cpu", threads).value()->name(), available_backends().front());
}

TEST(Registry, NamesWhatItKnows) {
  ThreadPool threads(1);
  const auto backend = make_backend("gpu", threads);
  ASSERT_FALSE(backend);
  EXPECT_EQ(backend.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(backend.error().message.find("cpu/generic"), std::string::npos);
}

TEST(Registry, SaysWhatThisProcessorCannotRun) {
  const auto names = available_backends();
  ThreadPool threads(1);
  for (const std::string name : {"cpu/avx2", "cpu/avx512"}) {
    const auto backend = make_backend(name, threads);
    if (std::ranges::count(names, name) > 0) {
      EXPECT_TRUE(backend);
    } else {
      ASSERT_FALSE(backend);
      EXPECT_EQ(backend.error().code, ErrorCode::kUnimplemented);
    }
  }
}

}  // namespace
}  // namespace pregate::compute
