// Requests whose rows lie in the device's memory, and answers that are left there: the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "compute/cuda/backend.h"
#include "protocol/codec.h"
#include "tests/support/device_memories.h"
#include "tests/support/fake_device.h"
#include "tests/unit/worker/manual_clock.h"
#include "worker/experts/on_disk.h"
#include "worker/serving/batch.h"

namespace pregate::worker {
namespace {

using pregate::testing::ManualClock;

constexpr auto kFormat = compute::WeightFormat::kBf16;
constexpr size_t kHidden = 64, kIntermediate = 32, kNumExperts = 3;
const LayerIdx kLayer(1);

class DeviceServing : public ::testing::Test {
 protected:
  DeviceServing() {
    for (uint32_t id = 0; id < kNumExperts; ++id) {
      store_.insert({kLayer, ExpertId(id)}, load(*backend_, ExpertId(id)));
    }
  }

  std::unique_ptr<compute::Backend> make_backend() {
    return compute::cuda::CudaBackend::create(device_, "cuda:fake", threads_).value();
  }

  static compute::SourceMatrix source_of(const std::vector<float>& numbers, size_t rows,
                                         size_t cols) {
    return {reinterpret_cast<const std::byte*>(numbers.data()), compute::DType::kF32, rows, cols};
  }
  /// Always the same of the same id.
  static std::unique_ptr<compute::PackedExpert> load(compute::Backend& backend, ExpertId id) {
    Random random(id.value);
    const auto random_matrix = [&] {
      std::vector<float> numbers(kIntermediate * kHidden);
      for (float& number : numbers) number = 0.2f * static_cast<float>(random.next_normal());
      return numbers;
    };
    const auto gate = random_matrix(), up = random_matrix(), down = random_matrix();
    const compute::ExpertSource source{source_of(gate, kIntermediate, kHidden),
                                       source_of(up, kIntermediate, kHidden),
                                       source_of(down, kHidden, kIntermediate)};
    return backend.pack_expert(source, kFormat).value();
  }

  /// For each row all experts. `as_tail`: its rows are in the device's memory.
  PendingRequest make_request(uint64_t id, uint32_t num_rows, uint64_t seed, bool as_tail) {
    Random random(seed);
    std::vector<float> numbers(num_rows * kHidden);
    for (float& number : numbers) number = static_cast<float>(random.next_normal());
    std::vector<std::byte> rows(num_rows * compute::encoded_row_bytes(kFormat, kHidden));
    backend_->encode({numbers.data(), num_rows, kHidden}, kFormat, rows.data());

    PendingRequest pending;
    pending.arrived = clock_.now();
    protocol::ExpertRequest& request = pending.request;
    request.request = RequestId(id);
    request.layer = kLayer;
    request.num_rows = num_rows;
    request.cols = kHidden;
    request.row_bytes = static_cast<uint32_t>(rows.size() / num_rows);
    request.row_format = static_cast<uint8_t>(kFormat);
    request.budget_us = 1'000'000;
    for (uint32_t expert = 0; expert < kNumExperts; ++expert) {
      request.table.experts.emplace_back(expert);
      request.table.counts.push_back(num_rows);
      for (uint32_t row = 0; row < num_rows; ++row) {
        request.table.rows.push_back(row);
        request.table.gates.push_back(0.1f * float(row + expert + 1));
      }
    }
    if (!as_tail) {
      pending.payload = transport::Payload::copy_of(rows);
      request.row_data = pending.payload.bytes();
      return pending;
    }
    auto tail = memory_->allocate(rows.size()).value();
    EXPECT_TRUE(memory_->write(tail.get(), rows));
    request.row_data = {tail.get(), rows.size()};
    pending.payload = {{}, {std::move(tail), rows.size(), memory_}};
    return pending;
  }

  static std::shared_ptr<DeviceMemory> nowhere(size_t) { return nullptr; }

  std::vector<Answer> serve(const std::vector<PendingRequest>& requests,
                            AnswerMemory where = nowhere) {
    BatchServer server(store_, *backend_, clock_, probe_);
    server.put_answers(std::move(where));
    return server.serve(requests);
  }

  static std::vector<std::byte> bytes_of(const Answer& answer) {
    EXPECT_TRUE(answer.reply.status);
    const auto here = answer.payload.on_host().value();
    return {here.bytes().begin(), here.bytes().end()};
  }

  const std::shared_ptr<compute::cuda::FakeDevice> device_ =
      std::make_shared<compute::cuda::FakeDevice>();
  ThreadPool threads_{1};
  const std::unique_ptr<compute::Backend> backend_ = make_backend();
  const std::shared_ptr<DeviceMemory> memory_ = backend_->shared_rows();
  ManualClock clock_;
  Probe probe_;
  ExpertStore store_{kFormat};
};

TEST_F(DeviceServing, WhereRowsAndAnswersAreChangesNoBit) {
  const auto expected = bytes_of(serve({make_request(1, 5, 7, false)})[0]);
  ASSERT_EQ(expected.size(), 5 * kHidden * sizeof(float));
  size_t asked = 0;
  const auto on_device = [&](size_t bytes) {
    asked = bytes;
    return memory_;
  };
  for (const bool as_tail : {false, true}) {
    const auto on_host = serve({make_request(1, 5, 7, as_tail)});
    EXPECT_EQ(on_host[0].payload.tail(), nullptr);
    EXPECT_EQ(bytes_of(on_host[0]), expected);
    const auto there = serve({make_request(1, 5, 7, as_tail)}, on_device);
    EXPECT_NE(there[0].payload.tail(), nullptr);
    EXPECT_EQ(there[0].payload.size(), expected.size());
    EXPECT_EQ(bytes_of(there[0]), expected);
    EXPECT_EQ(asked, expected.size());
  }
}

/// Only what shares rows with others, or leases experts, takes memory for it.
TEST_F(DeviceServing, TakesNoMemoryThatNobodyShares) {
  const auto alone = make_backend();
  const size_t before = device_->used_bytes();
  const BatchServer server(store_, *alone, clock_, probe_);
  EXPECT_EQ(device_->used_bytes(), before);
}

/// Experts on disk, with memory for one of them.
class DeviceServingFromDisk : public DeviceServing {
 protected:
  DeviceServingFromDisk() {
    const auto reader = ExpertOnDisk::reader(kFormat, kHidden);
    for (uint32_t id = 0; id < kNumExperts; ++id) {
      on_disk_.insert({kLayer, ExpertId(id)}, reader(kLayer, ExpertId(id)).value());
    }
    const auto read = [this](LayerIdx,
                             ExpertId id) -> Result<std::unique_ptr<compute::PackedExpert>> {
      if (is_broken_) return fail(ErrorCode::kDataLoss, "the disk is broken");
      return load(*packer_, id);
    };
    const size_t bytes = store_.bytes() / kNumExperts;
    cache_ = ExpertCache::create({read}, make_eviction_policy("lru", {.seed = 1}).value(),
                                 {.memory_bytes = bytes, .expert_bytes = bytes}, system_clock(),
                                 cache_probe_)
                 .value();
  }

  std::vector<Answer> serve_from_disk(const PendingRequest& request, AnswerMemory where) {
    PlannedCache cache(*cache_, on_disk_, /*num_layers=*/8);
    BatchServer server(on_disk_, *backend_, clock_, probe_, &cache);
    server.put_answers(std::move(where));
    return server.serve({&request, 1});
  }

  const std::unique_ptr<compute::Backend> packer_ = make_backend();
  std::atomic<bool> is_broken_{false};
  ExpertStore on_disk_{kFormat};
  CacheProbe cache_probe_;
  std::unique_ptr<ExpertCache> cache_;
};

TEST_F(DeviceServingFromDisk, TheSameBitsAsFromMemory) {
  const auto expected = bytes_of(serve({make_request(1, 5, 7, false)})[0]);
  const auto on_device = [&](size_t) { return memory_; };
  for (const bool as_tail : {false, true}) {
    const PendingRequest request = make_request(1, 5, 7, as_tail);
    EXPECT_EQ(bytes_of(serve_from_disk(request, nowhere)[0]), expected);
    const auto there = serve_from_disk(request, on_device);
    EXPECT_NE(there[0].payload.tail(), nullptr);
    EXPECT_EQ(bytes_of(there[0]), expected);
  }
}

TEST_F(DeviceServingFromDisk, WithoutRoomOnTheDeviceProductsAreTheHosts) {
  const auto expected = bytes_of(serve({make_request(1, 5, 7, false)})[0]);
  std::vector<std::shared_ptr<std::byte[]>> all;
  for (size_t bytes = size_t{1} << 30; bytes >= 1024; bytes /= 2) {
    while (auto memory = memory_->allocate(bytes)) all.push_back(*memory);
  }
  const PendingRequest request = make_request(1, 5, 7, false);
  EXPECT_EQ(bytes_of(serve_from_disk(request, [&](size_t) { return memory_; })[0]), expected);
}

TEST_F(DeviceServingFromDisk, ABrokenDiskIsToldAndNothingIsKept) {
  is_broken_ = true;
  const auto first_free = [&] { return memory_->allocate(1).value().get(); };
  const std::byte* const before = first_free();
  const auto answers =
      serve_from_disk(make_request(1, 5, 7, true), [&](size_t) { return memory_; });
  ASSERT_FALSE(answers[0].reply.status);
  EXPECT_THAT(answers[0].reply.status.error().message, ::testing::HasSubstr("the disk is broken"));
  EXPECT_EQ(answers[0].payload.size(), 0u);
  EXPECT_EQ(first_free(), before);
}

TEST_F(DeviceServing, RequestsAreJoinedWhereverTheirRowsAre) {
  const std::vector<PendingRequest> requests = {
      make_request(1, 5, 7, true), make_request(2, 3, 8, false), make_request(3, 2, 9, true)};
  const auto joined = serve(requests, [&](size_t) { return memory_; });
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(joined[i].payload.tail(), nullptr) << "cut out of the host's memory";
    EXPECT_EQ(bytes_of(joined[i]), bytes_of(serve({requests[i]})[0]));
  }
}

TEST_F(DeviceServing, WithoutRoomAnswersGoToTheHost) {
  const auto full = std::make_shared<transport::ScrambledMemory>(/*max_bytes=*/0);
  const auto answers = serve({make_request(1, 5, 7, true)}, [&](size_t) { return full; });
  EXPECT_EQ(bytes_of(answers[0]), bytes_of(serve({make_request(1, 5, 7, false)})[0]));
}

TEST_F(DeviceServing, RowsThatCannotBeReadAreAnErrorOfAllThatWereJoined) {
  std::vector<PendingRequest> requests = {make_request(1, 5, 7, false),
                                          make_request(2, 5, 8, true)};
  const transport::DeviceTail& tail = *requests[1].payload.tail();
  requests[1].payload = {{}, {tail.data, tail.size, std::make_shared<transport::LostMemory>()}};
  for (const Answer& answer : serve(requests)) {
    ASSERT_FALSE(answer.reply.status);
    EXPECT_EQ(answer.reply.status.error().message, "cuda:0 is lost");
    EXPECT_EQ(answer.payload.size(), 0u);
  }
}

}  // namespace
}  // namespace pregate::worker
