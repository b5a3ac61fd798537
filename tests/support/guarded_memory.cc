#include "tests/support/guarded_memory.h"

#include <algorithm>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"

// Null without the address sanitizer, which does not watch pages by itself.
extern "C" {
__attribute__((weak)) void __asan_poison_memory_region(const volatile void* memory, size_t size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* memory, size_t size);
}

namespace pregate {
namespace {

constexpr int kOpen = PROT_READ | PROT_WRITE;
/// Of an allocation: an arena's chunk is large, and mostly never used.
constexpr size_t kPoisonedBytes = size_t{4} << 20;

size_t page_bytes() {
  static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

/// And one more, which is never open: what runs over the end of an allocation ends there.
size_t mapped_bytes(size_t bytes) {
  return (bytes + page_bytes() - 1) / page_bytes() * page_bytes() + page_bytes();
}

void protect(std::byte* memory, size_t bytes, int access) {
  PREGATE_CHECK(mprotect(memory, mapped_bytes(bytes) - page_bytes(), access) == 0);
}

}  // namespace

GuardedMemory::~GuardedMemory() { PREGATE_CHECK(allocated_.empty()); }

std::byte* GuardedMemory::allocate(size_t bytes) {
  const size_t mapped = mapped_bytes(bytes);
  void* const pages =
      mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  auto* const memory = static_cast<std::byte*>(pages);
  const std::lock_guard lock(mutex_);
  protect(memory, bytes, kOpen);
  std::memset(memory, 0xff, std::min(bytes, kPoisonedBytes));
  if (__asan_poison_memory_region != nullptr) {
    __asan_poison_memory_region(memory + bytes, mapped - bytes);
  }
  if (num_users_ == 0) protect(memory, bytes, PROT_NONE);
  allocated_[memory] = bytes;
  return memory;
}

bool GuardedMemory::free(std::byte* memory) {
  const std::lock_guard lock(mutex_);
  const auto found = allocated_.find(memory);
  if (found == allocated_.end()) return false;
  const size_t bytes = found->second, mapped = mapped_bytes(bytes);
  if (__asan_unpoison_memory_region != nullptr) {
    __asan_unpoison_memory_region(memory + bytes, mapped - bytes);
  }
  munmap(memory, mapped);
  allocated_.erase(found);
  return true;
}

bool GuardedMemory::holds(const void* address) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(allocated_, [&](const auto& each) {
    return address >= each.first && address < each.first + each.second;
  });
}

size_t GuardedMemory::used_bytes() const {
  const std::lock_guard lock(mutex_);
  size_t used = 0;
  for (const auto& [memory, bytes] : allocated_) used += bytes;
  return used;
}

void GuardedMemory::change_users(int change) {
  const std::lock_guard lock(mutex_);
  const bool was_open = num_users_ > 0;
  num_users_ += change;
  const bool is_open = num_users_ > 0;
  if (is_open == was_open) return;
  for (const auto& [memory, bytes] : allocated_) {
    protect(memory, bytes, is_open ? kOpen : PROT_NONE);
  }
}

}  // namespace pregate
