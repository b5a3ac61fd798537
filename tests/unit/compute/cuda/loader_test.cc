#include "compute/cuda/loader.h"

#include <gmock/gmock.h>

#include "base/thread_pool.h"
#include "compute/backend.h"
#include "compute/cuda/select.h"

namespace pregate::compute::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Error error_of(const char* module, size_t index = 0) {
  const auto device = Devices({module}).open(index);
  return device ? Error{} : device.error();
}

TEST(CudaLoader, SaysWhereItLooked) {
  const auto device = Devices({"/no/such/first.so", "/no/such/second.so"}).open(2);
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(device.error().message, AllOf(StartsWith("cuda:2: no CUDA module"),
                                            HasSubstr("/no/such/first.so, /no/such/second.so")));
}

TEST(CudaLoader, TakesTheFirstThatIsThere) {
  Devices devices({"/no/such/first.so", FAKE_MODULE, NO_MODULE});
  EXPECT_TRUE(devices.open(0));
}

TEST(CudaLoader, RefusesWhatIsNoModule) {
  EXPECT_EQ(error_of(NO_MODULE).code, ErrorCode::kUnimplemented);
  EXPECT_THAT(error_of(NO_MODULE).message,
              AllOf(StartsWith("cuda:0: "), HasSubstr("is no CUDA module of pregate")));
  EXPECT_THAT(error_of(PREGATE_SOURCE_DIR "/README.md").message,
              HasSubstr("the CUDA module cannot be loaded"));
}

TEST(CudaLoader, RefusesAnotherBuild) {
  for (const auto& [module, id] : {std::pair{OTHER_ABI_MODULE, "interface 4711"},
                                   std::pair{OTHER_BUILD_MODULE, "0.0.1 of somebody"}}) {
    EXPECT_EQ(error_of(module).code, ErrorCode::kUnimplemented);
    EXPECT_THAT(error_of(module).message,
                AllOf(HasSubstr("is of another build"), HasSubstr(id), HasSubstr(kBuildId)));
  }
}

TEST(CudaLoader, OpensADeviceOnce) {
  Devices devices({FAKE_MODULE});
  ThreadPool threads(4);
  std::vector<std::shared_ptr<Device>> opened(4);
  threads.run([&](size_t thread) { opened[thread] = devices.open(0).value(); });
  for (const auto& device : opened) EXPECT_EQ(device, opened[0]);
  EXPECT_EQ(opened[0]->info().name, "Fake 9");
}

TEST(CudaLoader, SaysWhatADeviceLacks) {
  EXPECT_EQ(error_of(FAKE_MODULE, 1).code, ErrorCode::kUnimplemented);
  EXPECT_EQ(error_of(FAKE_MODULE, 1).message,
            "cuda:1: Fake 7 has compute capability 7.5, needed is 8.0 or newer");
  EXPECT_EQ(error_of(FAKE_MODULE, 3).code, ErrorCode::kNotFound);
  EXPECT_EQ(error_of(FAKE_MODULE, 3).message, "cuda:3: this machine has 2 CUDA devices");
}

TEST(CudaNames, ThatAreWrongAreRepeated) {
  ThreadPool threads(1);
  const auto backend = make_backend("cuda:x", threads);
  ASSERT_FALSE(backend);
  EXPECT_EQ(backend.error().message, "cuda:x: expected a CUDA device such as cuda:0");
}

// Whatever this machine has.
TEST(CudaNames, SayWhatElseThereIs) {
  ThreadPool threads(1);
  const auto backend = make_backend("cuda:4000", threads);
  ASSERT_FALSE(backend);
  EXPECT_THAT(backend.error().message,
              AllOf(StartsWith("cuda:4000: "), HasSubstr("use one of: cpu/")));
  EXPECT_FALSE(describe_devices().empty());
}

}  // namespace
}  // namespace pregate::compute::cuda
