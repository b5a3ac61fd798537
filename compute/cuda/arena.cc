#include "compute/cuda/arena.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {
namespace {

constexpr size_t kGibibyte = size_t{1} << 30;
constexpr size_t kChunkBytes = kGibibyte;
/// Blocks of this size and more are mostly experts, which are all of one size: chunks that hold a
/// whole number of them leave nothing over.
constexpr size_t kLargeBlockBytes = size_t{1} << 20;

size_t chunk_bytes_for(size_t block_bytes) {
  if (block_bytes >= kChunkBytes) return block_bytes;
  if (block_bytes < kLargeBlockBytes) return kChunkBytes;
  return kChunkBytes / block_bytes * block_bytes;
}

}  // namespace

class Arena::Memory {
  /// One allocation of the device and what is free of it.
  struct Chunk {
    std::byte* data = nullptr;
    size_t size_bytes = 0;
    std::map<size_t, size_t> holes;  // offset: bytes; no two touch

    bool is_empty() const { return !holes.empty() && holes.begin()->second == size_bytes; }
    bool contains(const void* address) const {
      const auto* const byte = static_cast<const std::byte*>(address);
      return byte >= data && byte < data + size_bytes;
    }

    /// Null if no hole is large enough.
    std::byte* take(size_t bytes) {
      const auto hole =
          std::ranges::find_if(holes, [&](const auto& each) { return each.second >= bytes; });
      if (hole == holes.end()) return nullptr;
      const auto [offset, size] = *hole;
      holes.erase(hole);
      if (size > bytes) holes.emplace(offset + bytes, size - bytes);
      return data + offset;
    }

    void give_back(size_t offset, size_t bytes) {
      auto next = holes.lower_bound(offset);
      if (next != holes.end() && next->first == offset + bytes) {
        bytes += next->second;
        next = holes.erase(next);
      }
      if (next != holes.begin()) {
        const auto previous = std::prev(next);
        if (previous->first + previous->second == offset) {
          previous->second += bytes;
          return;
        }
      }
      holes.emplace(offset, bytes);
    }
  };

 public:
  Memory(std::shared_ptr<Device> device, std::string name, size_t budget_bytes)
      : device_(std::move(device)), name_(std::move(name)), budget_bytes_(budget_bytes) {}
  ~Memory() {
    for (const Chunk& chunk : chunks_) device_->free(chunk.data);
  }

  size_t budget_bytes() const { return budget_bytes_; }
  size_t used_bytes() const {
    const std::scoped_lock lock(mutex_);
    return used_bytes_;
  }

  bool holds(const void* address) const {
    const std::scoped_lock lock(mutex_);
    return std::ranges::any_of(chunks_,
                               [&](const Chunk& chunk) { return chunk.contains(address); });
  }

  /// `bytes` is a multiple of kAlignment.
  Result<std::byte*> allocate(size_t bytes, std::string_view what) {
    const std::scoped_lock lock(mutex_);
    if (bytes > budget_bytes_ - used_bytes_) return refuse(bytes, what, "");
    for (Chunk& chunk : chunks_) {
      if (std::byte* const data = take(chunk, bytes)) return data;
    }
    if (chunk_bytes_ + bytes > budget_bytes_) free_empty_chunks();
    if (chunk_bytes_ + bytes > budget_bytes_) return refuse(bytes, what, ", but not in one piece");
    if (Status added = add_chunk(bytes); !added) {
      if (added.error().code != ErrorCode::kResourceExhausted) {
        return fail(std::move(added.error()));
      }
      return refuse(bytes, what, ", but the device gives no more: " + added.error().message);
    }
    return take(chunks_.back(), bytes);
  }

  void free(std::byte* data, size_t bytes) {
    const std::scoped_lock lock(mutex_);
    const auto chunk =
        std::ranges::find_if(chunks_, [&](const Chunk& each) { return each.contains(data); });
    PREGATE_CHECK(chunk != chunks_.end());
    chunk->give_back(static_cast<size_t>(data - chunk->data), bytes);
    used_bytes_ -= bytes;
  }

 private:
  std::byte* take(Chunk& chunk, size_t bytes) {
    std::byte* const data = chunk.take(bytes);
    if (data != nullptr) used_bytes_ += bytes;
    return data;
  }

  Status add_chunk(size_t block_bytes) {
    const size_t most = (budget_bytes_ - chunk_bytes_) / kAlignment * kAlignment;
    size_t bytes = std::min(chunk_bytes_for(block_bytes), most);
    auto data = device_->allocate(bytes);
    if (!data && bytes > block_bytes) data = device_->allocate(bytes = block_bytes);
    if (!data) return fail(std::move(data.error()));
    chunks_.push_back({.data = *data, .size_bytes = bytes, .holes = {{0, bytes}}});
    chunk_bytes_ += bytes;
    return {};
  }

  /// They were made for blocks of other sizes.
  void free_empty_chunks() {
    std::erase_if(chunks_, [&](const Chunk& chunk) {
      if (!chunk.is_empty()) return false;
      device_->free(chunk.data);
      chunk_bytes_ -= chunk.size_bytes;
      return true;
    });
  }

  tl::unexpected<Error> refuse(size_t bytes, std::string_view what, std::string_view why) const {
    return fail(ErrorCode::kResourceExhausted, "{}: {} for {}: {} of the budget of {} is free{}",
                name_, describe_bytes(bytes), what, describe_bytes(budget_bytes_ - used_bytes_),
                describe_bytes(budget_bytes_), why);
  }

  const std::shared_ptr<Device> device_;
  const std::string name_;
  const size_t budget_bytes_;
  mutable std::mutex mutex_;
  std::vector<Chunk> chunks_;
  size_t chunk_bytes_ = 0;  // of all chunks
  size_t used_bytes_ = 0;   // of all blocks
};

Arena::Block::~Block() {
  if (memory_) memory_->free(data_, size_bytes_);
}

void Arena::Block::swap(Block& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
}

size_t Arena::default_budget(size_t free_bytes) {
  return free_bytes - std::min(free_bytes, std::max(kGibibyte, free_bytes / 20));
}

size_t Arena::reserve_beside(size_t budget_bytes) { return std::max(kGibibyte, budget_bytes / 19); }

Arena::Arena(std::shared_ptr<Device> device, std::string name, size_t budget_bytes)
    : memory_(std::make_shared<Memory>(std::move(device), std::move(name), budget_bytes)) {}

Result<Arena::Block> Arena::allocate(size_t bytes, std::string_view what) {
  // Rounding up must not wrap around; nobody has so much.
  const size_t rounded =
      bytes > budget_bytes() ? bytes : round_up(std::max<size_t>(bytes, 1), kAlignment);
  PREGATE_ASSIGN(std::byte* const data, memory_->allocate(rounded, what));
  return Block(memory_, data, rounded);
}

bool Arena::holds(const void* address) const { return memory_->holds(address); }
size_t Arena::budget_bytes() const { return memory_->budget_bytes(); }
size_t Arena::used_bytes() const { return memory_->used_bytes(); }

}  // namespace pregate::compute::cuda
