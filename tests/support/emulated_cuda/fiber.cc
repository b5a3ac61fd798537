#include "tests/support/emulated_cuda/fiber.h"

#include <cstdint>

#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/check.h"

// The address sanitizer must be told of other stacks. Null without it.
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** saved, const void* bottom,
                                                          size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* saved, const void** bottom,
                                                           size_t* size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* memory, size_t size);
}

namespace pregate::emulated {
namespace {

constexpr size_t kStackBytes = size_t{128} << 10;

struct Stack {
  const void* bottom = nullptr;
  size_t size = 0;
};

/// Of this thread of the system. Asked once, as it takes reading a file.
const Stack& own_stack() {
  static thread_local const Stack stack = [] {
    pthread_attr_t attributes;
    void* bottom = nullptr;
    size_t size = 0;
    PREGATE_CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
    PREGATE_CHECK(pthread_attr_getstack(&attributes, &bottom, &size) == 0);
    pthread_attr_destroy(&attributes);
    return Stack{bottom, size};
  }();
  return stack;
}

}  // namespace

#if defined(__x86_64__)

// switch_stack(where to keep the old stack's top, the new one's): what a function must leave as it
// was lies on the stack, and nothing else is kept.
extern "C" void pregate_switch_stack(void** from, void* to);
asm(R"(
.pushsection .text
.type pregate_switch_stack, @function
pregate_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pregate_switch_stack, .-pregate_switch_stack
.popsection
)");

namespace {

/// As if pregate_switch_stack() had been called by nobody, and is to return to `entry`.
void* prepare(std::byte* stack, void (*entry)()) {
  constexpr size_t kRegisters = 6;
  auto* top = reinterpret_cast<uintptr_t*>(stack + kStackBytes);
  *--top = 0;  // where `entry` would return to
  *--top = reinterpret_cast<uintptr_t>(entry);
  for (size_t i = 0; i < kRegisters; ++i) *--top = 0;
  return top;
}

void exchange(void** from, void* to) { pregate_switch_stack(from, to); }

void release(void*) {}

}  // namespace

#else

// Slower, as it saves and restores the signal mask, but the same everywhere.
namespace {

void* prepare(std::byte* stack, void (*entry)()) {
  auto* context = new ucontext_t;
  PREGATE_CHECK(getcontext(context) == 0);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = kStackBytes;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}

void exchange(void** from, void* to) {
  if (*from == nullptr) *from = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(*from), static_cast<ucontext_t*>(to));
}

void release(void* saved) { delete static_cast<ucontext_t*>(saved); }

}  // namespace

#endif

Fiber::Fiber(void (*entry)()) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const memory = mmap(nullptr, page + kStackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PREGATE_CHECK(memory != MAP_FAILED);
  // A stack that overflows must not reach its neighbour.
  PREGATE_CHECK(mprotect(memory, page, PROT_NONE) == 0);
  mapped_ = static_cast<std::byte*>(memory);
  if (__asan_unpoison_memory_region != nullptr) {  // another stack may have lain here
    __asan_unpoison_memory_region(memory, page + kStackBytes);
  }
  bottom_ = mapped_ + page;
  size_ = kStackBytes;
  saved_ = prepare(mapped_ + page, entry);
}

Fiber::~Fiber() {
  release(saved_);
  if (mapped_ == nullptr) return;
  munmap(mapped_, kStackBytes + static_cast<size_t>(sysconf(_SC_PAGESIZE)));
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  if (__sanitizer_start_switch_fiber != nullptr) {
    const Stack stack = to.mapped_ != nullptr ? Stack{to.bottom_, to.size_} : own_stack();
    __sanitizer_start_switch_fiber(&from.fake_stack_, stack.bottom, stack.size);
  }
  exchange(&from.saved_, to.saved_);
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
  }
}

void Fiber::begun() {
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
  }
}

}  // namespace pregate::emulated
