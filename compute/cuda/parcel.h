// Rows and tables that travel to a device in one copy.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "base/result.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/scratch.h"

namespace pregate::compute::cuda {

class Parcel {
 public:
  /// What is added must stay until send() returns. Returns its number.
  template <typename T>
  size_t add(std::span<const T> items) {
    pieces_.push_back({std::as_bytes(items), size_bytes_});
    size_bytes_ += round_up(items.size_bytes(), kAlignment);
    return pieces_.size() - 1;
  }

  /// The same of rows, which are of one length and become one piece without gaps.
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

  /// Begins the copy; `pinned` and `to` must stay as they are until the stream was waited for.
  Status send(Stream& stream, PinnedScratch& pinned, DeviceScratch& to) {
    PREGATE_ASSIGN(std::byte* const packed, pinned.take(size_bytes_));
    PREGATE_ASSIGN(device_, to.take(size_bytes_));
    for (const Piece& piece : pieces_) {
      if (piece.bytes.empty()) continue;  // may have no address
      std::memcpy(packed + piece.offset, piece.bytes.data(), piece.bytes.size());
    }
    stream.upload_pinned(device_, packed, size_bytes_);
    return {};
  }

  size_t size_bytes() const { return size_bytes_; }
  /// Device address of piece `index`, once sent.
  template <typename T>
  const T* at(size_t index) const {
    return reinterpret_cast<const T*>(device_ + pieces_[index].offset);
  }

 private:
  static constexpr size_t kAlignment = 16;

  struct Piece {
    std::span<const std::byte> bytes;
    size_t offset = 0;
  };

  std::vector<Piece> pieces_;
  size_t size_bytes_ = 0;
  std::byte* device_ = nullptr;
};

}  // namespace pregate::compute::cuda
