#include "compute/cuda/shared_rows.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace pregate::compute::cuda {
namespace {

constexpr size_t kLeastBytes = size_t{64} << 10;
/// More than any device has.
constexpr size_t kMostBytes = size_t{1} << 48;

/// So few sizes that a block which was dropped mostly fits what is asked for next.
size_t block_bytes_for(size_t bytes) {
  return bytes > kMostBytes ? bytes : std::bit_ceil(std::max(bytes, kLeastBytes));
}

}  // namespace

Result<std::shared_ptr<std::byte[]>> CudaSharedRows::allocate(size_t bytes) {
  const size_t block_bytes = block_bytes_for(bytes);
  PREGATE_ASSIGN(std::byte* const data, take(block_bytes));
  return std::shared_ptr<std::byte[]>(data,
                                      [self = shared_from_this(), block_bytes](std::byte* block) {
                                        self->keep(block, block_bytes);
                                      });
}

Result<std::byte*> CudaSharedRows::take(size_t block_bytes) {
  if (std::byte* const kept = take_kept(block_bytes)) return kept;
  PREGATE_ASSIGN(std::byte* const block, allocate_beside(block_bytes));
  const std::scoped_lock lock(mutex_);
  blocks_.add(block, block_bytes);
  return block;
}

Result<std::byte*> CudaSharedRows::allocate_beside(size_t bytes) {
  auto memory = device_->allocate(bytes);
  if (memory || memory.error().code != ErrorCode::kResourceExhausted) return memory;
  give_back();
  return device_->allocate(bytes);
}

std::byte* CudaSharedRows::take_kept(size_t block_bytes) {
  const std::scoped_lock lock(mutex_);
  std::vector<std::byte*>& blocks = kept_[block_bytes];
  if (blocks.empty()) return nullptr;
  std::byte* const block = blocks.back();
  blocks.pop_back();
  return block;
}

void CudaSharedRows::keep(std::byte* block, size_t block_bytes) {
  const std::scoped_lock lock(mutex_);
  kept_[block_bytes].push_back(block);
}

void CudaSharedRows::give_back() {
  for (std::byte* const block : forget_kept()) device_->free(block);
}

std::vector<std::byte*> CudaSharedRows::forget_kept() {
  const std::scoped_lock lock(mutex_);
  std::vector<std::byte*> all;
  for (const auto& [block_bytes, blocks] : std::exchange(kept_, {})) {
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  for (const std::byte* const block : all) blocks_.remove(block);
  return all;
}

bool CudaSharedRows::holds(const void* address) const {
  const std::scoped_lock lock(mutex_);
  return blocks_.hold(address);
}

Status CudaSharedRows::read(std::span<std::byte> to, const std::byte* from) {
  if (to.empty()) return {};
  const std::scoped_lock lock(copying_);
  stream_->download(to.data(), from, to.size());
  return stream_->synchronize();
}

Status CudaSharedRows::write(std::byte* to, std::span<const std::byte> from) {
  if (from.empty()) return {};
  const std::scoped_lock lock(copying_);
  stream_->upload(to, from.data(), from.size());
  return stream_->synchronize();
}

}  // namespace pregate::compute::cuda
