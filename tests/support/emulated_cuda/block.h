// Blocks of threads, as a device has them, on one thread of the processor: they run one after the
// other, each of a block's threads as a fiber. A thread goes on until it has to wait for others of
// its warp or block; which warp and which lane is next, and which block, changes from time to time,
// so that what is right by chance of an order alone does not stay right.
//
// What a device would leave undefined ends the kernel with a reason: a barrier or an operation of a
// warp that not all threads come to, shared memory outside a block's own. Shared memory is full of
// ones (NaN) when a block begins, and so is where an asynchronous copy goes until it was waited
// for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <fmt/format.h>

namespace pregate::emulated {

inline constexpr uint32_t kLanes = 32;
/// What every byte is that was not written.
inline constexpr int kUnwritten = 0xff;

/// Numbers of a block or a thread, or how many there are.
struct Index {
  uint32_t x = 0, y = 0, z = 0;
};

struct Grid {
  Index num_blocks;
  uint32_t num_threads = 0;  ///< Of a block: whole warps in a row.
  size_t shared_bytes = 0;   ///< Dynamic shared memory.
  std::function<void()> body;
};

/// Runs all blocks. Empty, or what went wrong: then some of it was not done. Thread-safe: kernels
/// wait for one another.
std::string run(const Grid& grid);

/// What all lanes of a warp do together, given what each of them brought along.
struct WarpOperation {
  const char* name;
  void (*work)(void* const (&operands)[kLanes]);
};

// For a thread of a block, of which the compiler's built-in variables are these.

extern Index thread_index, block_index, block_count, thread_count;

/// Returns when all lanes of the warp have come to the same operation, and it is done.
void meet(const WarpOperation& operation, void* operands);

/// Returns when all threads of the block have come to it.
void wait_for_block();

/// Returns when somebody has called go_on() of this thread's number. `place` is for messages.
void stop(const char* place);
void go_on(uint32_t thread);

void note_failure(const std::string& reason);
/// Nothing on the thread's stack is destroyed.
[[noreturn]] void abandon_kernel();

/// Ends the kernel.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<const Args&...> reason, const Args&... args) {
  note_failure(fmt::format(reason, args...));
  abandon_kernel();
}

/// The block's dynamic shared memory.
std::byte* shared_memory();
/// Of shared memory: its address as instructions have it, and back. Fails outside of it, or if the
/// address is no multiple of `alignment`.
uint32_t shared_address(const void* pointer);
std::byte* shared_pointer(uint32_t address, size_t bytes, size_t alignment);

/// Copies of 4 or 16 bytes, in groups, which are made when the thread waits for them.
void copy_later(uint32_t to, const void* from, uint32_t bytes);
void close_group();
/// Until at most `num_pending` groups are not made.
void wait_for_groups(size_t num_pending);

}  // namespace pregate::emulated
