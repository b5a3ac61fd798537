#include "transport/payload.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/check.h"

namespace pregate::transport {

std::shared_ptr<std::byte[]> allocate_payload(size_t size) {
  constexpr auto kAlignment = std::align_val_t(kPayloadAlignment);
  auto* data = static_cast<std::byte*>(::operator new(std::max<size_t>(size, 1), kAlignment));
  return {data, [](std::byte* bytes) { ::operator delete(bytes, kAlignment); }};
}

Payload::Payload(const Payload& head, DeviceTail tail)
    : data_(head.data_),
      size_(head.size_),
      tail_(std::make_shared<const DeviceTail>(std::move(tail))) {
  PREGATE_CHECK(head.tail_ == nullptr && tail_->size > 0 && tail_->memory != nullptr);
}

Payload Payload::copy_of(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  const auto data = allocate_payload(bytes.size());
  std::memcpy(data.get(), bytes.data(), bytes.size());
  return {data, bytes.size()};
}

std::span<const std::byte> Payload::bytes() const {
  PREGATE_CHECK(tail_ == nullptr);
  return head();
}

Result<Payload> Payload::on_host() const {
  if (tail_ == nullptr) return *this;
  const auto data = allocate_payload(size());
  if (size_ > 0) std::memcpy(data.get(), data_.get(), size_);
  PREGATE_TRY(tail_->memory->read({data.get() + size_, tail_->size}, tail_->data.get()));
  return Payload(data, size());
}

Payload Payload::slice(size_t offset, size_t size) const {
  PREGATE_CHECK(tail_ == nullptr);
  return {std::shared_ptr<const std::byte[]>(data_, data_.get() + offset), size};
}

}  // namespace pregate::transport
