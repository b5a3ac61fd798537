// Memory for weights, the KV cache and scratch.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

#include <sys/mman.h>

namespace pregate::compute::cpu {

/// Uninitialised bytes, aligned for vectors. Large ones ask for huge pages: weights are read front
/// to back once per token, and the processor's prefetcher stops at the end of a page.
class Buffer {
 public:
  Buffer() = default;
  /// Throws std::bad_alloc.
  explicit Buffer(size_t size_bytes) : size_bytes_(size_bytes) {
    const size_t alignment = size_bytes >= kHugePageBytes ? kHugePageBytes : kVectorBytes;
    const size_t rounded = (size_bytes + kVectorBytes - 1) / kVectorBytes * kVectorBytes;
    void* data = nullptr;
    if (posix_memalign(&data, alignment, rounded) != 0) throw std::bad_alloc();
    data_.reset(static_cast<std::byte*>(data));
    // Advice only: without huge pages all works, slower.
    if (alignment == kHugePageBytes) madvise(data, rounded, MADV_HUGEPAGE);
  }

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size_bytes() const { return size_bytes_; }

 private:
  static constexpr size_t kVectorBytes = 64;
  static constexpr size_t kHugePageBytes = size_t{2} << 20;

  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::unique_ptr<std::byte[], Free> data_;
  size_t size_bytes_ = 0;
};

/// Room that is kept from call to call and only grows. What take() returns holds no particular
/// values and is valid until the next take().
class Scratch {
 public:
  template <typename T>
  std::span<T> take(size_t count) {
    const size_t size_bytes = count * sizeof(T);
    if (size_bytes > buffer_.size_bytes()) buffer_ = Buffer(size_bytes + size_bytes / 4);
    return {reinterpret_cast<T*>(buffer_.data()), count};
  }

 private:
  Buffer buffer_;
};

}  // namespace pregate::compute::cpu
