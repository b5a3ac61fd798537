#include "cli/expert_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/cuda/backend.h"
#include "model/checkpoint/checkpoint.h"
#include "tests/support/fake_device.h"
#include "worker/serving/cached_experts.h"

namespace pregate::cli {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr const char* kModel = PREGATE_SOURCE_DIR "/models/pregate-tiny";

TEST(ExpertBudget, WhatIsAskedForIsTaken) {
  const ExpertSizes sizes{.count = 10, .largest_bytes = kGiB, .total_bytes = 10 * kGiB};
  EXPECT_EQ(expert_budget({.memory_bytes = 3 * kGiB}, sizes, kGiB, 100 * kGiB), 3 * kGiB);
}

TEST(ExpertBudget, AllAreLoadedWhereTheyFitOrNobodyKnows) {
  const ExpertSizes sizes{.count = 10, .largest_bytes = kGiB, .total_bytes = 10 * kGiB};
  EXPECT_EQ(expert_budget({}, sizes, kGiB, 20 * kGiB), 0u);
  EXPECT_EQ(expert_budget({}, sizes, kGiB, 0), 0u);
}

TEST(ExpertBudget, OtherwiseWhatIsFreeLessAReserveAndTheKvCache) {
  const ExpertSizes sizes{.count = 10, .largest_bytes = kGiB, .total_bytes = 10 * kGiB};
  EXPECT_EQ(expert_budget({}, sizes, kGiB, 10 * kGiB), 8 * kGiB);
  EXPECT_EQ(expert_budget({}, sizes, 20 * kGiB, 10 * kGiB), 9 * kGiB / 2);
}

TEST(ExpertBudget, AModelWithoutExpertsNeedsNone) {
  EXPECT_EQ(expert_budget({.memory_bytes = kGiB}, {}, kGiB, kGiB), 0u);
}

TEST(ExpertCacheMemory, MoreThanTheDeviceHasIsRefusedUnlessAllExpertsTakeLess) {
  monitoring::Registry registry;
  ExpertCacheMetrics metrics(registry);
  ThreadPool threads(1);
  const auto device = std::make_shared<compute::cuda::FakeDevice>(3 * kGiB);  // 1 GiB is for rows
  const auto backend = compute::cuda::CudaBackend::create(device, "cuda:0", threads).value();
  const worker::ReadExpert read = [](LayerIdx, ExpertId) { return fail(ErrorCode::kInternal, ""); };
  const auto make = [&](uint64_t total_bytes) {
    const ExpertSizes sizes{.count = 10, .largest_bytes = kGiB, .total_bytes = total_bytes};
    return make_expert_cache({read}, {.memory_bytes = 3 * kGiB}, sizes, *backend, metrics);
  };
  const auto refused = make(10 * kGiB);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message,
            "--expert-memory 3221225472: cuda:0 has 2147483648 free for experts");
  EXPECT_TRUE(make(2 * kGiB));
}

class ExpertMemory : public ::testing::Test {
 protected:
  Result<std::unique_ptr<ModelRuntime>> load(const ExpertMemoryOptions& memory) {
    const LocalExpertsOptions options{.model = {.model = kModel}, .memory = memory};
    const auto quiet = [](const std::string&, size_t, size_t) {};
    return ModelRuntime::load(
        {.model = kModel, .kv_cache_bytes = 64 << 20},
        connect_local_experts(
            options, [this]() -> worker::CacheProbe& { return metrics_.emplace(registry_); },
            quiet),
        quiet);
  }

  monitoring::Registry registry_;
  std::optional<ExpertCacheMetrics> metrics_;
};

TEST_F(ExpertMemory, LessThanOneExpertIsRefusedWithTheFlagAndTheSizes) {
  const auto runtime = load({.memory_bytes = 1000});
  ASSERT_FALSE(runtime);
  EXPECT_EQ(runtime.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(runtime.error().message, HasSubstr("--expert-memory 1000: expected at least "));
}

TEST_F(ExpertMemory, WithoutTheFlagASmallModelIsAllInMemory) {
  const auto runtime = load({});
  ASSERT_TRUE(runtime) << runtime.error().message;
  EXPECT_EQ(dynamic_cast<worker::CachedExperts*>(&(*runtime)->engine().experts()), nullptr);
  EXPECT_FALSE(metrics_);
}

TEST_F(ExpertMemory, WithTheFlagAsMuchAsItSaysHoweverItIsRead) {
  for (const ExpertIo io : {ExpertIo::kMapped, ExpertIo::kDirect}) {
    const auto runtime = load({.memory_bytes = 1 << 20, .io = io, .num_loaders = 2});
    ASSERT_TRUE(runtime) << runtime.error().message;
    const std::vector<TokenId> tokens{5, 6, 7, 8, 9};
    const std::vector<uint32_t> blocks{0};
    const engine::StepSequence sequence{
        .tokens = tokens, .length_tokens = tokens.size(), .blocks = blocks};
    ASSERT_TRUE((*runtime)->engine().step_all({&sequence, 1}, [](size_t, size_t, auto) {}));
    const auto* cached = dynamic_cast<worker::CachedExperts*>(&(*runtime)->engine().experts());
    ASSERT_NE(cached, nullptr);
    const worker::CacheCounters counters = cached->cache().counters();
    EXPECT_EQ(counters.memory_bytes, 1u << 20);
    EXPECT_GT(counters.demand_loads, 0u);
    EXPECT_LE(counters.bytes, 1u << 20);
    EXPECT_THAT(registry_.scrape(), HasSubstr("pregate_expert_cache_budget_bytes 1048576"));
  }
}

TEST(MeasureExperts, CountsAllLayers) {
  const auto checkpoint = model::Checkpoint::open(kModel).value();
  const auto readers =
      expert_readers(checkpoint, "cpu", compute::WeightFormat::kF32, {.num_loaders = 3});
  ASSERT_TRUE(readers);
  EXPECT_EQ(readers->size(), 3u);
  const auto sizes = measure_experts(*checkpoint, readers->front());
  ASSERT_TRUE(sizes) << sizes.error().message;
  const auto& config = checkpoint->config();
  EXPECT_EQ(sizes->count, config.num_layers() * config.num_experts);
  EXPECT_GE(sizes->largest_bytes,
            3 * config.hidden_size * config.expert_intermediate_size * sizeof(float));
  EXPECT_EQ(sizes->total_bytes, sizes->count * sizes->largest_bytes);
}

}  // namespace
}  // namespace pregate::cli
