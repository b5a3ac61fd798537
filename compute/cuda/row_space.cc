#include "compute/cuda/row_space.h"

#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {

class RowSpace::Rows final : public RowMemory {
 public:
  using Release = void (RowSpace::*)(std::byte*);

  Rows(std::shared_ptr<RowSpace> space, std::byte* data, Release release)
      : space_(std::move(space)), data_(data), release_(release) {}
  ~Rows() override { ((*space_).*release_)(data_); }
  std::byte* data() const override { return data_; }

 private:
  const std::shared_ptr<RowSpace> space_;
  std::byte* const data_;
  const Release release_;
};

Result<std::unique_ptr<RowMemory>> RowSpace::allocate(size_t bytes) {
  const size_t size_bytes = std::max<size_t>(1, bytes);
  PREGATE_ASSIGN(std::byte* const data, device_->allocate(size_bytes));
  rows_.add(data, size_bytes);
  ++version_;
  return std::make_unique<Rows>(shared_from_this(), data, &RowSpace::release);
}

Result<std::unique_ptr<RowMemory>> RowSpace::allocate_pinned(size_t bytes) {
  const size_t size_bytes = std::max<size_t>(1, bytes);
  PREGATE_ASSIGN(std::byte* const data, device_->allocate_pinned(size_bytes));
  pinned_.add(data, size_bytes);
  return std::make_unique<Rows>(shared_from_this(), data, &RowSpace::release_pinned);
}

// A device that is lost has nothing that is still to be done.
void RowSpace::release(std::byte* data) {
  static_cast<void>(stream_.synchronize());
  rows_.remove(data);
  device_->free(data);
}

void RowSpace::release_pinned(std::byte* data) {
  static_cast<void>(stream_.synchronize());
  pinned_.remove(data);
  device_->free_pinned(data);
}

}  // namespace pregate::compute::cuda
