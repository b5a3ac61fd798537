// Rows and tables that an operation needs on a device: what is not there travels in one copy.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "base/result.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/outbox.h"
#include "compute/cuda/row_space.h"

namespace pregate::compute::cuda {

class Parcel {
 public:
  /// Null: there is no row memory.
  explicit Parcel(const RowSpace* row_space = nullptr) : row_space_(row_space) {}

  /// What is added must stay until send() returns. Returns its number.
  template <typename T>
  size_t add(std::span<const T> items) {
    pieces_.push_back({std::as_bytes(items), size_bytes_});
    size_bytes_ += round_up(items.size_bytes(), kAlignment);
    return pieces_.size() - 1;
  }

  /// The same of what may lie in row memory, and then stays there.
  template <typename T>
  size_t bring(std::span<const T> items) {
    if (row_space_ == nullptr || !row_space_->holds(items.data())) return add(items);
    pieces_.push_back({.bytes = {}, .offset = 0, .there = items.data()});
    return pieces_.size() - 1;
  }

  /// The same of several, which become one piece without gaps.
  template <typename T>
  size_t add_rows(const std::vector<std::span<const T>>& rows) {
    const size_t first = pieces_.size();
    for (const std::span<const T>& row : rows) {
      pieces_.push_back({std::as_bytes(row), size_bytes_});
      size_bytes_ += row.size_bytes();
    }
    size_bytes_ = round_up(size_bytes_, kAlignment);
    return first;
  }

  /// Begins the copy.
  Status send(Stream& stream, Outbox& outbox) {
    if (size_bytes_ == 0) return {};
    PREGATE_ASSIGN(sent_, outbox.take(size_bytes_));
    upload(stream);
    return {};
  }

  /// To memory of the caller's own, where it stays.
  Status send_to(Stream& stream, Outbox& outbox, DeviceScratch& memory) {
    if (size_bytes_ == 0) return {};
    PREGATE_ASSIGN(sent_, outbox.take(size_bytes_));
    PREGATE_ASSIGN(sent_.device, memory.take(size_bytes_));
    upload(stream);
    return {};
  }

  size_t size_bytes() const { return size_bytes_; }
  /// All of it, once sent.
  const Outbox::Piece& sent() const { return sent_; }
  /// Device address of piece `index`, once sent.
  template <typename T>
  const T* at(size_t index) const {
    const Piece& piece = pieces_[index];
    if (piece.there != nullptr) return static_cast<const T*>(piece.there);
    return reinterpret_cast<const T*>(sent_.device + piece.offset);
  }

 private:
  static constexpr size_t kAlignment = 16;

  struct Piece {
    std::span<const std::byte> bytes;
    size_t offset = 0;
    const void* there = nullptr;  // on the device already
  };

  void upload(Stream& stream) {
    for (const Piece& piece : pieces_) {
      if (piece.bytes.empty()) continue;  // may have no address
      std::memcpy(sent_.pinned + piece.offset, piece.bytes.data(), piece.bytes.size());
    }
    stream.upload_pinned(sent_.device, sent_.pinned, size_bytes_);
  }

  const RowSpace* const row_space_;
  std::vector<Piece> pieces_;
  size_t size_bytes_ = 0;
  Outbox::Piece sent_;
};

}  // namespace pregate::compute::cuda
