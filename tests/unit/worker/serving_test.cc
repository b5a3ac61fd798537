#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "tests/unit/worker/fake_backend.h"
#include "tests/unit/worker/manual_clock.h"
#include "worker/experts/on_disk.h"
#include "worker/serving/batch.h"

namespace pregate::worker {
namespace {

using pregate::testing::FakeBackend;
using pregate::testing::ManualClock;
using ::testing::HasSubstr;

constexpr size_t kHidden = 8;
const LayerIdx kLayer(1);

/// A request whose row r is filled with `value + r`.
PendingRequest make_request(uint64_t id, float value, uint32_t num_rows,
                            protocol::ExpertTable table, bool separate = false) {
  PendingRequest pending;
  protocol::ExpertRequest& request = pending.request;
  request.request = RequestId(id);
  request.layer = kLayer;
  request.num_rows = num_rows;
  request.cols = kHidden;
  request.row_bytes = kHidden * 4;
  request.budget_us = 1'000'000;
  request.separate = separate;
  request.table = std::move(table);
  std::vector<float> rows;
  for (uint32_t row = 0; row < num_rows; ++row)
    rows.insert(rows.end(), kHidden, value + float(row));
  pending.payload = transport::Payload::copy_of(std::as_bytes(std::span(rows)));
  request.row_data = pending.payload.bytes();
  return pending;
}

std::vector<float> floats_of(const Answer& answer) {
  std::vector<float> values(answer.payload.size() / 4);
  if (!values.empty())
    std::memcpy(values.data(), answer.payload.bytes().data(), answer.payload.size());
  return values;
}

class Serving : public ::testing::Test {
 protected:
  Serving() {
    for (uint32_t id = 0; id < 4; ++id) {
      store_.insert({kLayer, ExpertId(id)},
                    pregate::testing::load_fake(kLayer, ExpertId(id), kHidden).value());
    }
  }
  std::vector<Answer> serve(std::vector<PendingRequest>& requests) {
    for (PendingRequest& pending : requests) pending.arrived = arrival_;
    return BatchServer(store_, backend_, clock_, probe_).serve(requests);
  }

  ManualClock clock_;
  TimePoint arrival_ = clock_.now();
  FakeBackend backend_;
  Probe probe_;
  ExpertStore store_{compute::WeightFormat::kF32};
};

protocol::ExpertTable table_a() {
  return {{ExpertId(0), ExpertId(2)}, {2, 1}, {0, 1, 1}, {0.5f, 0.25f, 2.0f}};
}
protocol::ExpertTable table_b() {
  return {{ExpertId(2), ExpertId(3)}, {1, 2}, {0, 0, 2}, {1.0f, 0.5f, 0.125f}};
}

TEST_F(Serving, MergingChangesNoBit) {
  for (const bool separate : {false, true}) {
    std::vector<PendingRequest> both;
    both.push_back(make_request(1, 0.3f, 2, table_a(), separate));
    both.push_back(make_request(2, 7.7f, 3, table_b(), !separate));
    backend_.num_calls = 0;
    const auto merged = serve(both);
    EXPECT_EQ(backend_.num_calls, 1u);
    for (size_t i = 0; i < both.size(); ++i) {
      std::vector<PendingRequest> alone;
      alone.push_back(both[i]);
      const auto single = serve(alone);
      ASSERT_TRUE(merged[i].reply.status && single[0].reply.status);
      EXPECT_EQ(merged[i].reply.request, both[i].request.request);
      EXPECT_EQ(floats_of(merged[i]), floats_of(single[0]));
      EXPECT_EQ(merged[i].reply.num_rows, both[i].request.num_results());
    }
  }
}

TEST_F(Serving, SeparateResultsAddUpToTheSums) {
  std::vector<PendingRequest> requests;
  requests.push_back(make_request(1, 0.3f, 2, table_a(), true));
  requests.push_back(make_request(2, 0.3f, 2, table_a(), false));
  const auto answers = serve(requests);
  const auto separate = floats_of(answers[0]);
  std::vector<float> sums(2 * kHidden, 0.0f);
  const auto& rows = requests[0].request.table.rows;
  for (size_t entry = 0; entry < rows.size(); ++entry) {
    for (size_t j = 0; j < kHidden; ++j) {
      sums[rows[entry] * kHidden + j] += separate[entry * kHidden + j];
    }
  }
  EXPECT_EQ(sums, floats_of(answers[1]));
}

TEST_F(Serving, TheSameRequestTwiceGivesTheSameAnswer) {
  std::vector<PendingRequest> requests;
  requests.push_back(make_request(1, 0.3f, 2, table_a()));
  requests.push_back(make_request(1, 0.3f, 2, table_a()));
  const auto answers = serve(requests);
  EXPECT_EQ(floats_of(answers[0]), floats_of(answers[1]));
}

TEST_F(Serving, WhatIsTooLateIsNotComputed) {
  std::vector<PendingRequest> requests;
  requests.push_back(make_request(1, 0.3f, 2, table_a()));
  requests.back().request.budget_us = 1000;
  clock_.advance(std::chrono::milliseconds(2));
  const auto answers = serve(requests);
  ASSERT_FALSE(answers[0].reply.status);
  EXPECT_EQ(answers[0].reply.status.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(answers[0].payload.size(), 0u);
  EXPECT_EQ(backend_.num_calls, 0u);
}

TEST_F(Serving, AnEndlessBudgetDoesNotOverflow) {
  PendingRequest pending = make_request(1, 0.3f, 2, table_a());
  pending.request.budget_us = UINT64_MAX;
  pending.arrived = clock_.now();
  EXPECT_GT(pending.deadline(), clock_.now());
}

TEST_F(Serving, OneBadRequestHarmsNoOther) {
  const auto message_of = [&](void (*damage)(protocol::ExpertRequest&)) {
    std::vector<PendingRequest> requests;
    requests.push_back(make_request(1, 0.3f, 2, table_a()));
    requests.push_back(make_request(2, 0.3f, 2, table_a()));
    damage(requests[0].request);
    const auto answers = serve(requests);
    EXPECT_TRUE(answers[1].reply.status);
    EXPECT_FALSE(answers[0].reply.status);
    return answers[0].reply.status ? std::string() : answers[0].reply.status.error().message;
  };
  using R = protocol::ExpertRequest;
  EXPECT_THAT(message_of([](R& r) { r.table.experts[1] = ExpertId(9); }),
              HasSubstr("expert 9 of layer 1 is not held here"));
  EXPECT_THAT(message_of([](R& r) { r.layer = LayerIdx(5); }), HasSubstr("layer 5"));
  EXPECT_THAT(message_of([](R& r) { r.row_format = 2; }), HasSubstr("format 2"));
  EXPECT_THAT(message_of([](R& r) { r.row_bytes = 4; }), HasSubstr("do not fit"));
  EXPECT_THAT(message_of([](R& r) {
                r.cols = 1;
                r.row_bytes = 4;
              }),
              HasSubstr("rows of 1 columns, expected 8"));
}

TEST(RequestQueue, TakesTogetherWhatOneCallCanServe) {
  RequestQueue queue(10);
  for (uint64_t id = 1; id <= 4; ++id) {
    PendingRequest pending = make_request(id, 0.0f, 1, table_a());
    if (id == 2) pending.request.layer = LayerIdx(3);
    ASSERT_TRUE(queue.try_push(std::move(pending)));
  }
  const auto ids_of = [&] {
    std::vector<uint64_t> ids;
    for (const auto& pending : queue.pop_batch({})) ids.push_back(pending.request.request.value);
    return ids;
  };
  EXPECT_EQ(ids_of(), (std::vector<uint64_t>{1, 3, 4}));
  EXPECT_EQ(ids_of(), (std::vector<uint64_t>{2}));
  EXPECT_TRUE(ids_of().empty());
}

TEST(RequestQueue, MergesNoMoreThanPays) {
  RequestQueue queue(10);
  for (uint64_t id = 1; id <= 3; ++id) {
    PendingRequest pending = make_request(id, 0.0f, 1, table_a());
    pending.request.num_rows = 3000;
    ASSERT_TRUE(queue.try_push(std::move(pending)));
  }
  EXPECT_EQ(queue.pop_batch({}).size(), 1u);
  EXPECT_EQ(queue.size(), 2u);
}

TEST(RequestQueue, RefusesWhenFull) {
  RequestQueue queue(1);
  EXPECT_TRUE(queue.try_push(make_request(1, 0.0f, 1, table_a())));
  PendingRequest second = make_request(2, 0.0f, 1, table_a());
  EXPECT_FALSE(queue.try_push(std::move(second)));
  EXPECT_EQ(second.request.request, RequestId(2));
}

TEST(ExpertStore, JoinsNeighboursOfALayer) {
  ExpertStore store(compute::WeightFormat::kF32);
  EXPECT_TRUE(store.ranges().empty());
  const std::pair<uint32_t, uint32_t> keys[] = {{1, 0}, {0, 3}, {0, 1}, {0, 2}, {0, 5}, {1, 6}};
  for (const auto& [layer, id] : keys) {
    const ExpertKey key{LayerIdx(layer), ExpertId(id)};
    store.insert(key, pregate::testing::load_fake(key.first, key.second, kHidden).value());
  }
  using Range = protocol::ExpertRange;
  EXPECT_THAT(store.ranges(), ::testing::ElementsAre(Range{LayerIdx(0), ExpertId(1), 3},
                                                     Range{LayerIdx(0), ExpertId(5), 1},
                                                     Range{LayerIdx(1), ExpertId(0), 1},
                                                     Range{LayerIdx(1), ExpertId(6), 1}));
  EXPECT_EQ(store.bytes(), 6000u);
  EXPECT_EQ(store.keep_only({{LayerIdx(0), ExpertId(2)}, {LayerIdx(7), ExpertId(7)}}), 5u);
  EXPECT_THAT(store.ranges(), ::testing::ElementsAre(Range{LayerIdx(0), ExpertId(2), 1}));
}

/// Experts on disk, with memory for one of them.
class ServingFromDisk : public Serving {
 protected:
  ServingFromDisk() {
    for (uint32_t id = 0; id < 4; ++id) {
      const auto reader = ExpertOnDisk::reader(compute::WeightFormat::kF32, kHidden);
      on_disk_.insert({kLayer, ExpertId(id)}, reader(kLayer, ExpertId(id)).value());
    }
    const auto read = [this](LayerIdx layer,
                             ExpertId id) -> Result<std::unique_ptr<compute::PackedExpert>> {
      if (is_broken_) return fail(ErrorCode::kDataLoss, "the disk is broken");
      return pregate::testing::load_fake(layer, id, kHidden);
    };
    cache_ = ExpertCache::create({read}, make_eviction_policy("lru", {.seed = 1}).value(),
                                 {.memory_bytes = 1000, .expert_bytes = 1000}, system_clock(),
                                 cache_probe_)
                 .value();
  }
  std::vector<Answer> serve_from_disk(std::vector<PendingRequest>& requests) {
    for (PendingRequest& pending : requests) pending.arrived = arrival_;
    PlannedCache cache(*cache_, on_disk_, /*num_layers=*/8);
    return BatchServer(on_disk_, backend_, clock_, probe_, &cache).serve(requests);
  }

  std::atomic<bool> is_broken_{false};
  ExpertStore on_disk_{compute::WeightFormat::kF32};
  CacheProbe cache_probe_;
  std::unique_ptr<ExpertCache> cache_;
};

TEST_F(ServingFromDisk, TheSameBitsAsFromMemory) {
  for (const bool separate : {false, true}) {
    std::vector<PendingRequest> requests;
    requests.push_back(make_request(1, 0.3f, 2, table_a(), separate));
    requests.push_back(make_request(2, 7.7f, 3, table_b(), !separate));
    const auto from_disk = serve_from_disk(requests);
    const auto from_memory = serve(requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_TRUE(from_disk[i].reply.status);
      EXPECT_EQ(from_disk[i].reply.num_rows, requests[i].request.num_results());
      EXPECT_EQ(floats_of(from_disk[i]), floats_of(from_memory[i]));
    }
  }
}

TEST_F(ServingFromDisk, TakesNoMemoryOutsideTheCache) {
  EXPECT_EQ(on_disk_.bytes_in_memory(), 0u);
  EXPECT_EQ(on_disk_.num_experts(), 4u);
}

TEST_F(ServingFromDisk, ABrokenDiskIsToldToWhoAsked) {
  is_broken_ = true;
  std::vector<PendingRequest> requests;
  requests.push_back(make_request(1, 0.3f, 2, table_a()));
  auto answers = serve_from_disk(requests);
  ASSERT_FALSE(answers[0].reply.status);
  EXPECT_EQ(answers[0].reply.status.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(answers[0].reply.status.error().message, HasSubstr("the disk is broken"));
  EXPECT_EQ(answers[0].payload.size(), 0u);
  is_broken_ = false;
  answers = serve_from_disk(requests);
  EXPECT_TRUE(answers[0].reply.status);
}

TEST_F(Serving, WhatIsDroppedWhileItIsComputedIsStillComputed) {
  std::vector<PendingRequest> requests;
  requests.push_back(make_request(1, 0.3f, 2, table_a()));
  const auto expected = floats_of(serve(requests)[0]);
  backend_.before_experts = [&](size_t) { store_.keep_only({}); };
  const auto answers = serve(requests);
  EXPECT_TRUE(answers[0].reply.status);
  EXPECT_EQ(floats_of(answers[0]), expected);
  EXPECT_FALSE(serve(requests)[0].reply.status);
}

}  // namespace
}  // namespace pregate::worker
