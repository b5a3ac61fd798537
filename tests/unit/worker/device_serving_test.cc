// Requests whose rows lie in the device's memory, and answers that are left there: the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "protocol/codec.h"
#include "tests/support/backends.h"
#include "tests/unit/worker/manual_clock.h"
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
      const auto gate = random_matrix(kIntermediate * kHidden), up = random_matrix(gate.size());
      const auto down = random_matrix(gate.size());
      const compute::ExpertSource source{source_of(gate, kIntermediate, kHidden),
                                         source_of(up, kIntermediate, kHidden),
                                         source_of(down, kHidden, kIntermediate)};
      store_.insert({kLayer, ExpertId(id)}, backend_->pack_expert(source, kFormat).value());
    }
  }

  static compute::SourceMatrix source_of(const std::vector<float>& numbers, size_t rows,
                                         size_t cols) {
    return {reinterpret_cast<const std::byte*>(numbers.data()), compute::DType::kF32, rows, cols};
  }
  std::vector<float> random_matrix(size_t size) {
    std::vector<float> numbers(size);
    for (float& number : numbers) number = 0.2f * static_cast<float>(random_.next_normal());
    return numbers;
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

  std::vector<Answer> serve(
      const std::vector<PendingRequest>& requests,
      AnswerMemory where = [](size_t) { return nullptr; }) {
    BatchServer server(store_, *backend_, clock_, probe_);
    server.put_answers(std::move(where));
    return server.serve(requests);
  }

  static std::vector<std::byte> bytes_of(const Answer& answer) {
    EXPECT_TRUE(answer.reply.status);
    const auto here = answer.payload.on_host().value();
    return {here.bytes().begin(), here.bytes().end()};
  }

  ThreadPool threads_{1};
  std::unique_ptr<compute::Backend> backend_ =
      test_support::make_backend(test_support::kFakeCuda, threads_).value();
  const std::shared_ptr<DeviceMemory> memory_ = backend_->shared_rows();
  Random random_{1};
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
  struct Full final : DeviceMemory {
    Result<std::shared_ptr<std::byte[]>> allocate(size_t) override {
      return fail(ErrorCode::kResourceExhausted, "full");
    }
    Status read(std::span<std::byte>, const std::byte*) override { return {}; }
    Status write(std::byte*, std::span<const std::byte>) override { return {}; }
  };
  const auto answers =
      serve({make_request(1, 5, 7, true)}, [](size_t) { return std::make_shared<Full>(); });
  EXPECT_EQ(bytes_of(answers[0]), bytes_of(serve({make_request(1, 5, 7, false)})[0]));
}

TEST_F(DeviceServing, RowsThatCannotBeReadAreAnErrorOfAllThatWereJoined) {
  struct Lost final : DeviceMemory {
    Result<std::shared_ptr<std::byte[]>> allocate(size_t) override {
      return fail(ErrorCode::kUnavailable, "cuda:0 is lost");
    }
    Status read(std::span<std::byte>, const std::byte*) override {
      return fail(ErrorCode::kUnavailable, "cuda:0 is lost");
    }
    Status write(std::byte*, std::span<const std::byte>) override { return {}; }
  };
  std::vector<PendingRequest> requests = {make_request(1, 5, 7, false),
                                          make_request(2, 5, 8, true)};
  const transport::DeviceTail& tail = *requests[1].payload.tail();
  requests[1].payload = {{}, {tail.data, tail.size, std::make_shared<Lost>()}};
  for (const Answer& answer : serve(requests)) {
    ASSERT_FALSE(answer.reply.status);
    EXPECT_EQ(answer.reply.status.error().message, "cuda:0 is lost");
    EXPECT_EQ(answer.payload.size(), 0u);
  }
}

}  // namespace
}  // namespace pregate::worker
