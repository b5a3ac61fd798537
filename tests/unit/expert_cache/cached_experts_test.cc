// The same bits as with all experts in memory, with any budget, policy and plan.
#include "worker/serving/cached_experts.h"

#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "cli/model_runtime.h"
#include "engine/local_experts.h"
#include "model/checkpoint/checkpoint.h"
#include "tests/unit/expert_cache/cache_fixture.h"

namespace pregate::worker {
namespace {

using ::testing::HasSubstr;

class Serving : public pregate::testing::CacheTest {
 protected:
  /// Rows of random numbers, each for `top_k` random experts.
  struct Batch {
    std::vector<float> rows;
    std::vector<ExpertId> experts;
    std::vector<float> gates;
    size_t num_rows = 0;
  };
  static constexpr size_t kTopK = 3, kNumExperts = 8;

  static Batch random_batch(Random& random) {
    Batch batch{.num_rows = 1 + random.next_below(5)};
    for (size_t i = 0; i < batch.num_rows * pregate::testing::kFakeHidden; ++i) {
      batch.rows.push_back(static_cast<float>(random.next_normal()));
    }
    for (size_t row = 0; row < batch.num_rows; ++row) {
      std::set<uint32_t> chosen;
      while (chosen.size() < kTopK) chosen.insert(uint32_t(random.next_below(kNumExperts)));
      for (const uint32_t expert : chosen) {
        batch.experts.emplace_back(expert);
        batch.gates.push_back(static_cast<float>(random.next_double()));
      }
      std::swap(batch.experts.back(), batch.experts[batch.experts.size() - kTopK]);
    }
    return batch;
  }

  static Result<std::vector<float>> compute(engine::ExpertClient& client, const Batch& batch,
                                            uint64_t step) {
    const engine::ExpertBatch request{
        .step = step,
        .layer = LayerIdx(0),
        .rows = {compute::WeightFormat::kF32, batch.num_rows, pregate::testing::kFakeHidden,
                 reinterpret_cast<const std::byte*>(batch.rows.data())},
        .top_k = kTopK,
        .expert_ids = batch.experts,
        .gates = batch.gates};
    std::vector<float> out(batch.rows.size(), 123.0f);
    PREGATE_ASSIGN(const auto ticket, client.dispatch(request));
    PREGATE_ASSIGN(const auto homeless, client.combine(ticket, {out.data(), batch.num_rows,
                                                                pregate::testing::kFakeHidden}));
    EXPECT_TRUE(homeless.empty());
    return out;
  }

  std::unique_ptr<engine::LocalExperts> local() {
    engine::ExpertTable table(1);
    for (uint32_t e = 0; e < kNumExperts; ++e) {
      table[0].push_back(
          pregate::testing::load_fake(LayerIdx(0), ExpertId(e), pregate::testing::kFakeHidden)
              .value());
    }
    return engine::LocalExperts::create(backend_, std::move(table)).value();
  }

  pregate::testing::FakeBackend backend_;
};

TEST_F(Serving, TheSameBitsWithAnyMemory) {
  const auto all = local();
  for (const std::string& policy : eviction_policy_names()) {
    for (const size_t capacity : {1, 2, 4, 6, 8}) {
      make(capacity, policy);
      CachedExperts cached(backend_, std::move(cache), 1);
      Random random(capacity);
      for (uint64_t step = 0; step < 40; ++step) {
        const Batch batch = random_batch(random);
        cached.expect({guess(uint32_t(random.next_below(kNumExperts)), step + 1, 0.5f)}, step);
        EXPECT_EQ(compute(cached, batch, step).value(), compute(*all, batch, step).value())
            << policy << ", memory for " << capacity << ", step " << step;
      }
      EXPECT_LE(cached.cache().counters().bytes, capacity * 1000);
    }
  }
}

TEST_F(Serving, AnExpertThatCannotBeLoadedEndsTheStepAndNotTheNext) {
  make(2);
  CachedExperts cached(backend_, std::move(cache), 1);
  Random random(1);
  const Batch batch = random_batch(random);
  disk.fail_next({LayerIdx(0), batch.experts[0]}, 4);
  const auto failed = compute(cached, batch, 1);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(failed.error().message, HasSubstr("the disk is broken"));
  EXPECT_EQ(compute(cached, batch, 2).value(), compute(*local(), batch, 2).value());
}

/// The model of this repository, decoding greedily, a few sequences at a time.
class ShippedModel : public ::testing::TestWithParam<std::string> {
 protected:
  static constexpr auto kFormat = compute::WeightFormat::kBf16;
  static constexpr size_t kNumTokens = 10;
  static constexpr size_t kNumSequences = 3;

  using Connect = cli::ModelRuntime::ConnectExperts;
  using Tokens = std::vector<std::vector<TokenId>>;

  static Result<std::unique_ptr<cli::ModelRuntime>> load(const Connect& connect) {
    return cli::ModelRuntime::load({.model = PREGATE_SOURCE_DIR "/models/pregate-tiny",
                                    .weights = kFormat,
                                    .backend = "cpu",
                                    .num_threads = 1,
                                    .kv_cache_bytes = 64 << 20,
                                    .max_model_len = 64},
                                   connect, [](const std::string&, size_t, size_t) {});
  }

  /// An expert client with `percent` of the memory that all experts take.
  Connect cached(size_t percent, const std::string& policy) {
    return [this, percent, policy](
               auto checkpoint,
               compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
      packer_ = compute::make_backend(backend.name(), packer_thread_).value();
      const ReadExpert read = [this, checkpoint](LayerIdx layer, ExpertId expert) {
        return model::load_expert(*checkpoint, layer, expert, *packer_, kFormat);
      };
      const auto& config = checkpoint->config();
      const size_t expert_bytes = read(LayerIdx(0), ExpertId(0)).value()->bytes();
      const size_t num_experts = config.num_layers() * config.num_experts;
      PREGATE_ASSIGN(auto cache, ExpertCache::create(
                                     {read}, make_eviction_policy(policy, {.seed = 1}).value(),
                                     {.memory_bytes = num_experts * expert_bytes * percent / 100,
                                      .expert_bytes = expert_bytes},
                                     system_clock(), probe_));
      auto client = std::make_unique<CachedExperts>(backend, std::move(cache), config.num_layers());
      cached_ = client.get();
      return client;
    };
  }

  static Tokens decode(engine::Engine& engine) {
    Tokens sequences;
    for (size_t s = 0; s < kNumSequences; ++s) {
      sequences.emplace_back();
      for (size_t i = 0; i < 4 + s; ++i) {
        sequences.back().push_back(static_cast<TokenId>(100 + 37 * s + 11 * i));
      }
    }
    std::vector<size_t> num_computed(kNumSequences, 0);
    for (size_t n = 0; n < kNumTokens; ++n) step(engine, sequences, num_computed);
    return sequences;
  }

  static void step(engine::Engine& engine, Tokens& sequences, std::vector<size_t>& num_computed) {
    const std::vector<std::vector<uint32_t>> blocks{{0, 1}, {2, 3}, {4, 5}};
    std::vector<engine::StepSequence> batch;
    for (size_t s = 0; s < sequences.size(); ++s) {
      batch.push_back({.tokens = std::span(sequences[s]).subspan(num_computed[s]),
                       .first_position = num_computed[s],
                       .length_tokens = sequences[s].size(),
                       .blocks = blocks[s]});
    }
    Tokens next(sequences.size());
    const Status status = engine.step_all(batch, [&](size_t s, size_t, auto logits) {
      next[s] = {static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin())};
    });
    ASSERT_TRUE(status) << status.error().message;
    for (size_t s = 0; s < sequences.size(); ++s) {
      num_computed[s] = sequences[s].size();
      sequences[s].push_back(next[s].at(0));
    }
  }

  ThreadPool packer_thread_{1};
  std::unique_ptr<compute::Backend> packer_;
  CacheProbe probe_;
  CachedExperts* cached_ = nullptr;
};

TEST_P(ShippedModel, TheSameTokensWithAnyMemory) {
  const auto all =
      load(cli::ModelRuntime::local_experts(kFormat, [](const std::string&, size_t, size_t) {
      })).value();
  const Tokens expected = decode(all->engine());
  for (const size_t percent : {25, 50, 75, 100}) {
    const auto runtime = load(cached(percent, GetParam())).value();
    EXPECT_EQ(decode(runtime->engine()), expected) << percent << " %";
    const CacheCounters counters = cached_->cache().counters();
    EXPECT_LE(counters.bytes, counters.memory_bytes);
    EXPECT_TRUE(percent > 25 || counters.evictions > 0);
    EXPECT_TRUE(percent < 100 || counters.evictions == 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, ShippedModel, ::testing::ValuesIn(eviction_policy_names()),
                         [](const auto& policy) { return policy.param; });

}  // namespace
}  // namespace pregate::worker
