// A device's memory for weights and the KV cache: taken from the device in large chunks, which are
// given out in blocks. Allocating from the device itself is slow and may wait for all that computes
// there. Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

class Arena {
  class Memory;

 public:
  static constexpr size_t kAlignment = 1024;

  /// Memory until it is destroyed; keeps the device, and may outlive the arena.
  class Block {
   public:
    Block() = default;
    Block(Block&& other) noexcept { swap(other); }
    Block& operator=(Block&& other) noexcept {
      Block(std::move(other)).swap(*this);
      return *this;
    }
    ~Block();

    /// Device address, aligned to kAlignment. Null: of no memory.
    std::byte* data() const { return data_; }
    /// What it takes of the budget: what was asked for, rounded up to kAlignment.
    size_t size_bytes() const { return size_bytes_; }

   private:
    friend class Arena;
    Block(std::shared_ptr<Memory> memory, std::byte* data, size_t size_bytes)
        : memory_(std::move(memory)), data_(data), size_bytes_(size_bytes) {}
    void swap(Block& other) noexcept;

    std::shared_ptr<Memory> memory_;
    std::byte* data_ = nullptr;
    size_t size_bytes_ = 0;
  };

  /// What is free, less 1 GiB or 5 %, whichever is more, for rows and the driver.
  static size_t default_budget(size_t free_bytes);
  /// What that left when it gave such a budget.
  static size_t reserve_beside(size_t budget_bytes);

  /// `name` ("cuda:0") begins every message.
  Arena(std::shared_ptr<Device> device, std::string name, size_t budget_bytes);

  /// Error kResourceExhausted, and nothing changes: more than is free of the budget, or not free in
  /// one piece, or the device gives no more. `what` it is for is named in the message. Other
  /// errors are the device's.
  Result<Block> allocate(size_t bytes, std::string_view what = "weights");

  /// Whether an address is of memory that was taken from the device.
  bool holds(const void* address) const;
  size_t budget_bytes() const;
  size_t used_bytes() const;
  size_t free_bytes() const { return budget_bytes() - used_bytes(); }

 private:
  std::shared_ptr<Memory> memory_;
};

}  // namespace pregate::compute::cuda
