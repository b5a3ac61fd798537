#include "compute/row_memory.h"

#include "base/check.h"
#include "compute/backend.h"

namespace pregate::compute {

Result<RowVector> RowVector::make(std::span<const float> numbers, Backend& backend) {
  RowVector vector;
  if (numbers.empty()) return vector;
  PREGATE_ASSIGN(vector.memory_, backend.allocate_rows(numbers.size_bytes()));
  vector.size_ = numbers.size();
  backend.write(vector.memory_->data(), numbers.data(), numbers.size_bytes());
  return vector;
}

std::span<const float> RowVector::view() const {
  if (memory_ == nullptr) return {};
  return {reinterpret_cast<const float*>(memory_->data()), size_};
}

Result<std::byte*> RowBuffer::take(size_t bytes) {
  if (bytes > size_bytes_ || memory_ == nullptr) {
    memory_.reset();
    size_bytes_ = 0;
    PREGATE_ASSIGN(memory_, backend_->allocate_rows(bytes));
    size_bytes_ = bytes;
  }
  return memory_->data();
}

Result<Matrix<float>> RowBuffer::take_rows(size_t rows, size_t cols) {
  PREGATE_ASSIGN(std::byte* const data, take(rows * cols * sizeof(float)));
  return Matrix<float>(reinterpret_cast<float*>(data), rows, cols);
}

std::byte* HostBuffer::take(size_t bytes) {
  if (bytes > size_bytes_ || memory_ == nullptr) {
    memory_.reset();
    memory_ = backend_.allocate_host_rows(bytes);
    size_bytes_ = bytes;
  }
  return memory_->data();
}

Matrix<float> HostBuffer::take_rows(size_t rows, size_t cols) {
  return {reinterpret_cast<float*>(take(rows * cols * sizeof(float))), rows, cols};
}

std::byte* HostCopy::room_for(const void* rows, size_t bytes) {
  if (backend_.shares_row_memory()) {
    return const_cast<std::byte*>(static_cast<const std::byte*>(rows));
  }
  return copy_.take(bytes);
}

Matrix<float> HostCopy::begin(Matrix<float> rows) {
  PREGATE_CHECK(rows.stride == rows.cols);
  std::byte* const room = room_for(rows.data, rows.rows * rows.cols * sizeof(float));
  return {reinterpret_cast<float*>(room), rows.rows, rows.cols};
}

void HostCopy::send(Matrix<float> rows) {
  const Matrix<float> written = begin(rows);
  backend_.write(rows.data, written.data, rows.rows * rows.cols * sizeof(float));
}

Matrix<const float> HostCopy::read(Matrix<const float> rows) {
  PREGATE_CHECK(rows.stride == rows.cols);
  const size_t bytes = rows.rows * rows.cols * sizeof(float);
  std::byte* const room = room_for(rows.data, bytes);
  backend_.read(room, rows.data, bytes);
  return {reinterpret_cast<const float*>(room), rows.rows, rows.cols};
}

EncodedRows HostCopy::read(const EncodedRows& rows) {
  const size_t bytes = rows.rows * encoded_row_bytes(rows.format, rows.cols);
  std::byte* const room = room_for(rows.data, bytes);
  backend_.read(room, rows.data, bytes);
  return {rows.format, rows.rows, rows.cols, room};
}

}  // namespace pregate::compute
