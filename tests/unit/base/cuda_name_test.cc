#include "base/cuda_name.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

TEST(CudaNames, NameADevice) {
  EXPECT_EQ(cuda_name(12), "cuda:12");
  EXPECT_EQ(parse_cuda_name("cuda"), 0U);
  EXPECT_EQ(parse_cuda_name("cuda:0"), 0U);
  EXPECT_EQ(parse_cuda_name("cuda:12"), 12U);
}

TEST(CudaNames, MustBeComplete) {
  for (const std::string name :
       {"cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda: 1", "cuda:99999999999999999999"}) {
    EXPECT_TRUE(is_cuda_name(name));
    const auto device = parse_cuda_name(name);
    ASSERT_FALSE(device) << name;
    EXPECT_EQ(device.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(device.error().message, "expected a CUDA device such as cuda:0");
  }
  for (const std::string name : {"cpu", "cud", "cudax", "cuda0"}) {
    EXPECT_FALSE(is_cuda_name(name));
    EXPECT_FALSE(parse_cuda_name(name));
  }
}

}  // namespace
}  // namespace pregate
