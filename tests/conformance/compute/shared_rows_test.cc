// Row memory that other threads use too, of the back ends that have it.
#include <algorithm>
#include <numeric>
#include <thread>

#include "base/device_memory.h"
#include "tests/conformance/compute/resident.h"

namespace pregate::compute {
namespace {

using SharedBytes = std::shared_ptr<std::byte[]>;

class SharedRowsTest : public BackendTest {
 protected:
  SharedBytes share(std::span<const std::byte> bytes) {
    SharedBytes memory = shared_->allocate(bytes.size()).value();
    EXPECT_TRUE(shared_->write(memory.get(), bytes));
    return memory;
  }
  SharedBytes share(const Numbers& numbers) {
    return share(std::as_bytes(std::span(numbers.data)));
  }

  static Matrix<float> view(const SharedBytes& memory, size_t rows, size_t cols) {
    return {reinterpret_cast<float*>(memory.get()), rows, cols};
  }

  /// After what the back end began.
  std::vector<std::byte> bytes_of(const SharedBytes& memory, size_t count) {
    std::vector<std::byte> bytes(count);
    subject_->wait();
    EXPECT_TRUE(shared_->read(bytes, memory.get()));
    return bytes;
  }
  Numbers numbers_of(const SharedBytes& memory, size_t rows, size_t cols) {
    Numbers numbers(rows, cols);
    const auto bytes = bytes_of(memory, rows * cols * sizeof(float));
    std::memcpy(numbers.data.data(), bytes.data(), bytes.size());
    return numbers;
  }

  Numbers random(size_t rows, size_t cols) { return Numbers::random(random_, rows, cols); }

  std::shared_ptr<DeviceMemory> shared_ = subject_->shared_rows();
};

TEST_P(SharedRowsTest, KeepsWhatIsWritten) {
  for (const size_t count : {1, 1000, 3'000'001}) {
    std::vector<std::byte> bytes(count);
    for (std::byte& byte : bytes) byte = std::byte(random_.next_below(256));
    const SharedBytes memory = share(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.get()) % 64, 0u);
    EXPECT_EQ(bytes_of(memory, count), bytes);
    std::vector<std::byte> by_the_back_end(count);
    subject_->read(by_the_back_end.data(), memory.get(), count);
    EXPECT_EQ(by_the_back_end, bytes);
  }
  EXPECT_TRUE(shared_->allocate(0));
  EXPECT_TRUE(shared_->read({}, nullptr));
  EXPECT_TRUE(shared_->write(nullptr, {}));
}

TEST_P(SharedRowsTest, SumsComeFromItAndGoToIt) {
  const Numbers x = random(4, 30), own = random(1, 30);
  const SharedBytes there = share(x), out = shared_->allocate(2 * 30 * sizeof(float)).value();
  const Resident resident(subject_, own);
  const Matrix<float> rows = view(there, 4, 30);
  const std::vector<const float*> addends = {rows.row(3).data(), resident.view().data,
                                             resident.view().data, rows.row(0).data()};
  subject_->sum_rows({std::vector<uint32_t>{2, 4}, addends}, view(out, 2, 30));
  Numbers expected(2, 30);
  for (size_t col = 0; col < 30; ++col) {
    expected.view().row(0)[col] = x.view().row(3)[col] + own.data[col];
    expected.view().row(1)[col] = own.data[col] + x.view().row(0)[col];
  }
  EXPECT_EQ(numbers_of(out, 2, 30), expected);
}

TEST_P(SharedRowsTest, EncodedRowsAreTakenToIt) {
  const Encoded x(*subject_, random(5, 200), WeightFormat::kQ8);
  const ResidentRows there(subject_, x);
  const size_t row_bytes = encoded_row_bytes(x.format, x.cols);
  const SharedBytes out = shared_->allocate(2 * row_bytes).value();
  subject_->take_encoded(there.view(), std::vector<uint32_t>{4, 1}, out.get());
  std::vector<std::byte> expected(2 * row_bytes);
  std::copy_n(&x.bytes[4 * row_bytes], row_bytes, expected.data());
  std::copy_n(&x.bytes[row_bytes], row_bytes, &expected[row_bytes]);
  EXPECT_EQ(bytes_of(out, expected.size()), expected);
}

/// What a worker does.
TEST_P(SharedRowsTest, ExpertsReadItAndWriteToIt) {
  const size_t hidden = 70, inner = 90;
  const Numbers gate = random(inner, hidden), down = random(hidden, inner);
  for (const WeightFormat format : kFormats) {
    SCOPED_TRACE(to_string(format));
    const auto expert =
        subject_->pack_expert({gate.source(), gate.source(), down.source()}, format).value();
    const Encoded x(*subject_, random(12, hidden), format);
    const std::vector<uint32_t> rows = {3, 0, 11, 7}, out_rows = {0, 2, 5, 5};
    const std::vector<float> gates = {0.5f, 1.0f, -0.25f, 2.0f};
    const ExpertTask task{expert.get(), rows, out_rows, gates};
    Numbers expected(6, hidden);
    subject_->experts(x.view(), {&task, 1}, expected.view());
    const SharedBytes there = share(x.bytes);
    const SharedBytes out = shared_->allocate(expected.data.size() * sizeof(float)).value();
    subject_->experts({format, 12, hidden, there.get()}, {&task, 1}, view(out, 6, hidden));
    EXPECT_EQ(numbers_of(out, 6, hidden), expected);
  }
}

TEST_P(SharedRowsTest, IsRowMemoryToOtherOperationsToo) {
  const Numbers x = random(9, 40), addend = random(4, 40);
  const std::vector<uint32_t> rows = {8, 0, 3, 3};
  const SharedBytes there = share(x), more = share(addend);
  Resident out(subject_, Numbers(4, 40), 2);
  subject_->take_rows(view(there, 9, 40), rows, out.view());
  subject_->add(view(more, 4, 40), out.view());
  Numbers expected(4, 40);
  reference_->take_rows(x.view(), rows, expected.view());
  reference_->add(addend.view(), expected.view());
  EXPECT_EQ(out.read(), expected);
}

/// By several threads, while the back end computes.
TEST_P(SharedRowsTest, IsTakenAndDroppedByManyThreads) {
  constexpr size_t kNumThreads = 4, kNumTurns = 30;
  const auto take_and_drop = [this](uint32_t thread) {
    SharedBytes kept;
    for (uint32_t turn = 0; turn < kNumTurns; ++turn) {
      std::vector<uint32_t> numbers(100u << (turn * (thread + 1) % 10), 1000 * thread + turn);
      const auto bytes = std::as_bytes(std::span(numbers));
      const SharedBytes memory = shared_->allocate(bytes.size()).value();
      EXPECT_TRUE(shared_->write(memory.get(), bytes));
      if (turn % 3 == 0) kept = memory;  // drops another
      std::vector<uint32_t> read(numbers.size());
      EXPECT_TRUE(shared_->read(std::as_writable_bytes(std::span(read)), memory.get()));
      EXPECT_EQ(read, numbers);
    }
  };
  std::vector<std::jthread> threads;
  for (uint32_t i = 0; i < kNumThreads; ++i) threads.emplace_back(take_and_drop, i);
  const Numbers x = random(40, 64);
  for (size_t turn = 0; turn < kNumTurns; ++turn) {
    const SharedBytes rows = share(x);
    subject_->add(view(rows, 20, 64), view(rows, 40, 64).slice_rows(20, 20));
    Numbers expected = x;
    reference_->add(expected.view().slice_rows(0, 20), expected.view().slice_rows(20, 20));
    EXPECT_EQ(numbers_of(rows, 40, 64), expected);
  }
}

TEST_P(SharedRowsTest, OutlivesItsBackEnd) {
  const Numbers x = random(3, 50);
  SharedBytes memory = share(x);
  subject_ = Subject("reference");
  Numbers read(3, 50);
  EXPECT_TRUE(shared_->read(std::as_writable_bytes(std::span(read.data)), memory.get()));
  EXPECT_EQ(read, x);
  shared_ = nullptr;
  std::jthread([last = std::move(memory)] {});
}

INSTANTIATE_TEST_SUITE_P(Compute, SharedRowsTest, all_devices(), backend_test_name);

class SharedOrNotTest : public BackendTest {};

TEST_P(SharedOrNotTest, IsThereWhereRowMemoryIsNotTheHosts) {
  EXPECT_EQ(subject_->shared_rows() == nullptr, subject_->shares_row_memory());
  EXPECT_EQ(subject_->shared_rows(), subject_->shared_rows());
  subject_->wait();
}

INSTANTIATE_TEST_SUITE_P(Backends, SharedOrNotTest, all_backends(), backend_test_name);

}  // namespace
}  // namespace pregate::compute
