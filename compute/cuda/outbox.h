// What is on its way to a device: pieces of pinned memory, which must stay as they are until the
// stream was waited for, each with room in the device's memory to arrive in.
#pragma once

#include <algorithm>

#include "compute/cuda/layout.h"
#include "compute/cuda/scratch.h"

namespace pregate::compute::cuda {

class Outbox {
 public:
  struct Piece {
    std::byte* pinned = nullptr;
    std::byte* device = nullptr;  ///< Until as much has been taken again as there is room for.
  };

  Outbox(Device& device, Stream& stream)
      : stream_(stream), pinned_(device, stream), device_(device, stream) {}

  /// Waits for the stream if there is no room.
  Result<Piece> take(size_t bytes) {
    ++num_taken_;
    if (used_bytes_ + bytes > size_bytes_) PREGATE_TRY(make_room(bytes));
    const Piece piece{data_.pinned + used_bytes_, data_.device + used_bytes_};
    used_bytes_ += round_up(bytes, kAlignment);
    return piece;
  }

  /// Pieces so far.
  uint64_t num_taken() const { return num_taken_; }
  /// The stream was waited for: all has arrived.
  void arrived() { used_bytes_ = 0; }

 private:
  static constexpr size_t kAlignment = 256;
  static constexpr size_t kLeastBytes = size_t{4} << 20;

  Status make_room(size_t bytes) {
    PREGATE_TRY(stream_.synchronize());
    arrived();
    if (bytes <= size_bytes_) return {};
    size_bytes_ = 0;
    const size_t size_bytes = std::max(kLeastBytes, bytes + bytes / 4);
    PREGATE_ASSIGN(data_.pinned, pinned_.take(size_bytes));
    PREGATE_ASSIGN(data_.device, device_.take(size_bytes));
    size_bytes_ = size_bytes;
    return {};
  }

  Stream& stream_;
  PinnedScratch pinned_;
  DeviceScratch device_;
  Piece data_;
  size_t size_bytes_ = 0, used_bytes_ = 0;
  uint64_t num_taken_ = 0;
};

}  // namespace pregate::compute::cuda
