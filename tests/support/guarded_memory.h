// Memory of a device that is the processor itself: it can be touched while the device works, and
// faults otherwise, so that a host that reads a device address is found.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace pregate {

class GuardedMemory {
 public:
  GuardedMemory() = default;
  GuardedMemory(const GuardedMemory&) = delete;
  ~GuardedMemory();

  /// Whole pages, which begin with NaNs: what was never written must not show through. Null if
  /// there is no memory.
  std::byte* allocate(size_t bytes);
  /// False: it is none that was given out.
  bool free(std::byte* memory);
  /// Whether an address is of what is allocated.
  bool holds(const void* address) const;
  /// Of what is allocated, in all.
  size_t used_bytes() const;

  /// While there is one, all of the memory can be touched, by any thread.
  class Access {
   public:
    explicit Access(GuardedMemory& memory) : memory_(memory) { memory_.change_users(1); }
    Access(const Access&) = delete;
    ~Access() { memory_.change_users(-1); }

   private:
    GuardedMemory& memory_;
  };

 private:
  void change_users(int change);

  mutable std::mutex mutex_;
  std::map<std::byte*, size_t> allocated_;
  int num_users_ = 0;
};

}  // namespace pregate
