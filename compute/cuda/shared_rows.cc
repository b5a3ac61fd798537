#include "compute/cuda/shared_rows.h"

namespace pregate::compute::cuda {

void CudaSharedRows::reserve() {
  constexpr size_t kWhole = Arena::kAlignment;
  // What is given back stays with the arena.
  static_cast<void>(arena_.allocate(arena_.budget_bytes() / kWhole * kWhole));
}

Result<std::shared_ptr<std::byte[]>> CudaSharedRows::allocate(size_t bytes) {
  PREGATE_ASSIGN(Arena::Block block, arena_.allocate(bytes, "rows that are shared"));
  const auto owner = std::make_shared<const Arena::Block>(std::move(block));
  return std::shared_ptr<std::byte[]>(owner, owner->data());
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
