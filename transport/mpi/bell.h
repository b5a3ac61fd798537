// A bell that wakes a thread of another process on this host.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace pregate::transport {

/// In memory that the processes share. Zeros are a bell that has not been rung.
struct BellMemory {
  std::atomic<uint32_t> rings;
  std::atomic<uint32_t> sleepers;
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

/// A handle. Thread-safe.
class Bell {
 public:
  explicit Bell(BellMemory& memory) : memory_(&memory) {}

  void wake();
  /// How often it was rung: to be read before the look for work that finds none.
  uint32_t rings() const { return memory_->rings.load(); }
  /// Sleeps, unless it was rung since `rings` was read, until it is or the time is over. Whether it
  /// was rung.
  bool wait(uint32_t rings, Duration duration);

 private:
  BellMemory* memory_;
};

}  // namespace pregate::transport
