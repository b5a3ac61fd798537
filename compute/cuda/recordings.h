// What a stream does again and again, launched at once instead of piece by piece: for a few rows,
// launching takes longer than the work.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

/// By all that the work refers to. Used by one thread.
class Recordings {
 public:
  /// Bytes that are equal where the work is.
  class Key {
   public:
    template <typename T>
    void add(const T& value) {
      static_assert(std::has_unique_object_representations_v<T>);
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    auto operator<=>(const Key&) const = default;

   private:
    std::string bytes_;
  };

  struct Entry {
    /// Whether it was seen to send nothing and to wait for nothing: to be all on the device.
    bool can_be_recorded = false;
    std::unique_ptr<Recording> recording;  ///< Null: not yet.

   private:
    friend class Recordings;
    uint64_t last_used = 0;
  };

  /// `stream` must outlive it.
  explicit Recordings(Stream& stream) : stream_(stream) {}

  /// Of what has not been asked for it is new, and takes the place of what was not for longest.
  /// Valid until the next call.
  Result<Entry*> at(const Key& key);

  /// Kept at most.
  static constexpr size_t kMaxEntries = 64;

 private:
  Status make_room();

  Stream& stream_;
  std::map<Key, Entry> entries_;
  uint64_t num_asked_ = 0;
};

}  // namespace pregate::compute::cuda
