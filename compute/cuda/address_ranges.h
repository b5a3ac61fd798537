// Which memory an address is of.
#pragma once

#include <cstddef>
#include <functional>
#include <map>

namespace pregate::compute::cuda {

/// Pieces of memory that do not overlap.
class AddressRanges {
 public:
  void add(const std::byte* data, size_t bytes) { sizes_.emplace(data, bytes); }
  void remove(const std::byte* data) { sizes_.erase(data); }

  bool hold(const void* address) const {
    const auto* const byte = static_cast<const std::byte*>(address);
    const auto below = sizes_.lower_bound(byte);  // the highest that is not above it
    return below != sizes_.end() && byte < below->first + below->second;
  }

 private:
  std::map<const std::byte*, size_t, std::greater<>> sizes_;  // by address, the highest first
};

}  // namespace pregate::compute::cuda
