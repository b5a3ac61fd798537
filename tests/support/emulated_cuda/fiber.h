// Threads of execution that take turns on one thread of the system: each has a stack, and what runs
// goes on until it hands over to another one by name. A switch takes a few nanoseconds, as a kernel
// of a small test makes millions of them.
#pragma once

#include <cstddef>

namespace pregate::emulated {

class Fiber {
 public:
  /// The stack of whoever calls it, to come back to.
  Fiber() = default;
  /// Begins with `entry`, which never returns, when it is switched to first.
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Goes on where `to` left off, and returns when somebody switches back to `from`, which is who
  /// calls it.
  static void switch_to(Fiber& from, Fiber& to);
  /// To be called first by what a fiber begins with.
  static void begun();

 private:
  void* saved_ = nullptr;  // where it left off
  std::byte* mapped_ = nullptr;
  // For the address sanitizer.
  const void* bottom_ = nullptr;
  size_t size_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace pregate::emulated
