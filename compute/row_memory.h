// Memory for the rows that a model computes with. Of a device it is the device's own, and only the
// back end that it is of reads and writes it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"
#include "compute/types.h"

namespace pregate::compute {

class Backend;

/// From Backend::allocate_rows() or allocate_host_rows(), which must outlive it.
class RowMemory {
 public:
  virtual ~RowMemory() = default;
  /// Aligned to 64 bytes. It holds no particular values at first.
  virtual std::byte* data() const = 0;
};

/// A vector in row memory; empty unless made.
class RowVector {
 public:
  RowVector() = default;
  static Result<RowVector> make(std::span<const float> numbers, Backend& backend);

  bool empty() const { return size_ == 0; }
  size_t bytes() const { return size_ * sizeof(float); }
  std::span<const float> view() const;

 private:
  std::unique_ptr<RowMemory> memory_;
  size_t size_ = 0;
};

/// Row memory that grows, never shrinks. What it gives is valid until the next time.
class RowBuffer {
 public:
  explicit RowBuffer(Backend& backend) : backend_(&backend) {}

  /// As much as was given last keeps its values unless more is asked for. Error:
  /// kResourceExhausted.
  Result<std::byte*> take(size_t bytes);
  Result<Matrix<float>> take_rows(size_t rows, size_t cols);

 private:
  Backend* backend_;
  std::unique_ptr<RowMemory> memory_;
  size_t size_bytes_ = 0;
};

/// The same of host memory.
class HostBuffer {
 public:
  explicit HostBuffer(Backend& backend) : backend_(backend) {}

  std::byte* take(size_t bytes);
  Matrix<float> take_rows(size_t rows, size_t cols);

 private:
  Backend& backend_;
  std::unique_ptr<RowMemory> memory_;
  size_t size_bytes_ = 0;
};

/// What the host has of row memory: a copy, or the memory itself where that is the host's.
class HostCopy {
 public:
  explicit HostCopy(Backend& backend) : backend_(backend), copy_(backend) {}

  /// For the host to write to, until send() with the same rows.
  Matrix<float> begin(Matrix<float> rows);
  void send(Matrix<float> rows);
  /// Waits for what is there. Both are valid until the next call.
  Matrix<const float> read(Matrix<const float> rows);
  EncodedRows read(const EncodedRows& rows);

 private:
  std::byte* room_for(const void* rows, size_t bytes);

  Backend& backend_;
  HostBuffer copy_;
};

}  // namespace pregate::compute
