// With rows in host memory, and in a device's, where the host cannot touch them.
#include "coordinator/dispatch/row_exchange.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "protocol/codec.h"
#include "tests/support/backends.h"
#include "tests/support/device_memories.h"

namespace pregate::coordinator {
namespace {

using compute::WeightFormat;
using transport::Payload;

/// So few that answers are of odd sizes.
constexpr size_t kRows = 9, kCols = 30;

bool no_tail(size_t) { return false; }

class RowExchangeTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto backend = test_support::make_backend(GetParam(), threads_);
    ASSERT_TRUE(backend) << backend.error().message;
    backend_ = std::move(*backend);
    memory_ = backend_->shared_rows();
    exchange_.emplace(*backend_, memory_);
  }

  /// Random bytes in row memory, as a batch's rows.
  compute::EncodedRows make_rows(uint64_t seed) {
    const size_t bytes = kRows * compute::encoded_row_bytes(kFormat, kCols);
    Random random(seed);
    host_rows_.resize(bytes);
    for (std::byte& byte : host_rows_) byte = std::byte(random.next_below(256));
    rows_.push_back(backend_->allocate_rows(bytes).value());
    backend_->write(rows_.back()->data(), host_rows_.data(), bytes);
    return {kFormat, kRows, kCols, rows_.back()->data()};
  }

  static Share make_share(std::vector<uint32_t> batch_rows) {
    Share share{.worker = {}, .batch_rows = std::move(batch_rows), .table = {}};
    const auto num_rows = uint32_t(share.batch_rows.size());
    share.table.experts = {ExpertId(3)};
    share.table.counts = {num_rows};
    for (uint32_t row = 0; row < num_rows; ++row) share.table.rows.push_back(row);
    share.table.gates.assign(num_rows, 0.5f);
    return share;
  }

  /// Of one as it was packed, wherever it lies.
  std::vector<std::byte> rows_of(const Payload& payload, const Share& share) {
    const Payload here = payload.on_host().value();
    const size_t at =
        protocol::row_data_offset(share.table.experts.size(), share.table.rows.size());
    std::vector<std::byte> table(at);
    protocol::encode_table(share.table, table.data());
    EXPECT_EQ(std::memcmp(table.data(), here.bytes().data(), at), 0);
    return {here.bytes().begin() + long(at), here.bytes().end()};
  }

  std::vector<std::byte> expected_rows(const Share& share) const {
    const size_t row_bytes = compute::encoded_row_bytes(kFormat, kCols);
    std::vector<std::byte> expected;
    for (const uint32_t row : share.batch_rows) {
      const auto first = host_rows_.begin() + long(row * row_bytes);
      expected.insert(expected.end(), first, first + long(row_bytes));
    }
    return expected;
  }

  /// Rows of a worker's answer: row i is i + `first` everywhere.
  Payload answer(size_t num_rows, float first, bool as_tail) {
    std::vector<float> numbers;
    for (size_t row = 0; row < num_rows; ++row) {
      numbers.insert(numbers.end(), kCols, first + float(row));
    }
    const auto bytes = std::as_bytes(std::span(numbers));
    if (!as_tail || memory_ == nullptr) return Payload::copy_of(bytes);
    auto tail = memory_->allocate(bytes.size()).value();
    EXPECT_TRUE(memory_->write(tail.get(), bytes));
    return {{}, {std::move(tail), bytes.size(), memory_}};
  }

  /// The first number of each row; all are alike.
  std::vector<float> sums_of(std::span<const Payload> payloads, std::span<const Addend> addends) {
    compute::RowBuffer buffer(*backend_);
    const auto out = buffer.take_rows(kRows, kCols).value();
    EXPECT_TRUE(exchange_->add_up(payloads, addends, out));
    std::vector<float> numbers(kRows * kCols), sums;
    backend_->read(numbers.data(), out.data, numbers.size() * sizeof(float));
    for (size_t row = 0; row < kRows; ++row) {
      sums.push_back(numbers[row * kCols]);
      for (size_t i = 0; i < kCols; ++i) EXPECT_EQ(numbers[row * kCols + i], sums.back());
    }
    return sums;
  }

  static constexpr auto kFormat = WeightFormat::kQ8;
  ThreadPool threads_{2};
  std::unique_ptr<compute::Backend> backend_;
  std::shared_ptr<DeviceMemory> memory_;
  std::optional<RowExchange> exchange_;
  std::vector<std::unique_ptr<compute::RowMemory>> rows_;
  std::vector<std::byte> host_rows_;  // the last ones
};

TEST_P(RowExchangeTest, PacksTheRowsOfAShare) {
  const auto rows = make_rows(1);
  for (const bool as_tail : {false, memory_ != nullptr}) {
    for (const std::vector<uint32_t>& of : {std::vector<uint32_t>{0, 3, 8}, {5}}) {
      const Share share = make_share(of);
      const Payload payload = exchange_->pack(1, rows, share, [&](size_t bytes) {
        EXPECT_EQ(bytes, expected_rows(share).size());
        return as_tail;
      });
      EXPECT_EQ(payload.tail() != nullptr, as_tail);
      EXPECT_EQ(rows_of(payload, share), expected_rows(share));
    }
  }
}

TEST_P(RowExchangeTest, TellsBatchesApart) {
  const Share share = make_share({2, 4});
  const auto first = make_rows(1);
  const auto rows_of_first = expected_rows(share);
  EXPECT_EQ(rows_of(exchange_->pack(1, first, share, no_tail), share), rows_of_first);
  const auto second = make_rows(2);
  EXPECT_EQ(rows_of(exchange_->pack(2, second, share, no_tail), share), expected_rows(share));
  EXPECT_EQ(rows_of(exchange_->pack(1, first, share, no_tail), share), rows_of_first)
      << "sent again while the next one is under way";
}

/// Whichever way each of them came.
TEST_P(RowExchangeTest, AddsUpWhatCame) {
  // Row 2 gets three, row 5 two, row 0 one, all others nothing.
  const std::vector<Addend> addends = {{2, 0, 1}, {0, 0, 0}, {5, 1, 1},
                                       {2, 1, 0}, {2, 0, 2}, {5, 0, 2}};
  const std::vector<float> expected = {10, 0, 11 + 200 + 12, 0, 0, 201 + 12, 0, 0, 0};
  for (const bool first : {false, true}) {
    for (const bool second : {false, true}) {
      const Payload payloads[] = {answer(3, 10, first), answer(2, 200, second)};
      EXPECT_EQ(sums_of(payloads, addends), expected);
    }
  }
}

TEST_P(RowExchangeTest, AddsInTheOrderOfAddends) {
  const Payload payloads[] = {answer(1, 1e8f, true), answer(1, 3, true), answer(1, -1e8f, true)};
  EXPECT_EQ(sums_of(payloads, std::vector<Addend>{{1, 0, 0}, {1, 2, 0}, {1, 1, 0}})[1], 3.0f);
  EXPECT_EQ(sums_of(payloads, std::vector<Addend>{{1, 0, 0}, {1, 1, 0}, {1, 2, 0}})[1],
            (1e8f + 3.0f) - 1e8f);
}

TEST_P(RowExchangeTest, NothingCameIsZero) { EXPECT_THAT(sums_of({}, {}), ::testing::Each(0.0f)); }

/// Answers may be dropped as soon as they are added up, though the device may not be done with
/// them: what is given out next must not be theirs.
TEST_P(RowExchangeTest, KeepsTailsUntilTheyAreAdded) {
  if (memory_ == nullptr) GTEST_SKIP() << "row memory is the host's: there are no tails";
  std::vector<Payload> payloads = {answer(kRows, 1, true)};
  std::vector<Addend> addends;
  for (uint32_t row = 0; row < kRows; ++row) addends.push_back({row, 0, row});
  compute::RowBuffer buffer(*backend_);
  const auto out = buffer.take_rows(kRows, kCols).value();
  ASSERT_TRUE(exchange_->add_up(payloads, addends, out));
  payloads.clear();
  const Payload next = answer(kRows, 500, true);
  std::vector<float> numbers(kRows * kCols);
  backend_->read(numbers.data(), out.data, numbers.size() * sizeof(float));
  for (size_t row = 0; row < kRows; ++row) EXPECT_EQ(numbers[row * kCols], 1.0f + float(row));
}

/// For want of memory, rows go by way of the host.
TEST_P(RowExchangeTest, WithoutRoomThereIsNoTail) {
  RowExchange exchange(*backend_, std::make_shared<transport::ScrambledMemory>(/*max_bytes=*/0));
  const auto rows = make_rows(1);
  const Share share = make_share({1, 7});
  const Payload payload = exchange.pack(1, rows, share, [](size_t) { return true; });
  EXPECT_EQ(payload.tail(), nullptr);
  EXPECT_EQ(rows_of(payload, share), expected_rows(share));
}

INSTANTIATE_TEST_SUITE_P(Backends, RowExchangeTest,
                         ::testing::Values("cpu", test_support::kFakeCuda),
                         [](const auto& backend) {
                           return backend.param == "cpu" ? "Cpu" : "FakeCuda";
                         });

}  // namespace
}  // namespace pregate::coordinator
