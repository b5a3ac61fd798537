#include "tests/support/emulated_cuda/block.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "tests/support/emulated_cuda/barriers.h"
#include "tests/support/emulated_cuda/fiber.h"
#include "tests/support/emulated_cuda/warpgroup.h"

// The linker's names for where all `__shared__` variables lie; null if there are none.
extern "C" {
__attribute__((weak, visibility("hidden"))) extern std::byte __start_emulated_shared[];
__attribute__((weak, visibility("hidden"))) extern std::byte __stop_emulated_shared[];
}

namespace pregate::emulated {

Index thread_index, block_index, block_count, thread_count;

namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;
/// Addresses of shared memory begin here, as 0 is more often a mistake than an address.
constexpr uint32_t kFirstAddress = 1024;
constexpr size_t kSharedAlignment = 1024;
constexpr const char* kBarrier = "__syncthreads";
constexpr const char* kEnd = "its end";

struct Copy {
  std::byte* to = nullptr;
  const void* from = nullptr;
  uint32_t bytes = 0;
};

/// Copies that a thread asked for, and groups of them, in order.
struct Copies {
  std::vector<Copy> copies;
  std::vector<size_t> ends;  // of the groups that are closed, in `copies`
  size_t num_done = 0;       // groups

  void clear() {
    copies.clear();
    ends.clear();
    num_done = 0;
  }
};

struct Thread {
  explicit Thread(void (*entry)()) : fiber(entry) {}
  Fiber fiber;
  const char* waits_in = nullptr;
  Copies copies;
};

struct Warp {
  uint32_t ready = 0;  // lanes that could go on
  uint32_t arrived = 0;
  const WarpOperation* operation = nullptr;
  void* operands[kLanes] = {};
};

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

/// The one that runs. All of it is used under `mutex`.
class Block {
 public:
  std::string run(const Grid& grid);
  void meet(const WarpOperation& operation, void* operands);
  void wait();
  void stop(const char* place);
  void go_on(uint32_t thread) { warps_[thread / kLanes].ready |= 1u << thread % kLanes; }
  /// Returns when the thread is to run in another block.
  void end_thread();
  void note_failure(const std::string& reason);
  [[noreturn]] void abandon();
  Thread& current() { return *threads_[current_]; }
  std::byte* shared_memory() { return shared_.get(); }
  size_t shared_bytes() const { return grid_->shared_bytes; }
  void call_body() { grid_->body(); }

  std::mutex mutex;

 private:
  void allocate(const Grid& grid);
  void run_block(const Index& index);
  /// Somebody who can go on does; returns when the one who called it is chosen again.
  void run_another();
  /// Of those who can go on, one of the same warp first. False if nobody can.
  bool choose_next();
  bool choose_warp();
  void note_end();
  std::string describe_waiting() const;

  const Grid* grid_ = nullptr;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Warp> warps_;
  std::unique_ptr<std::byte, Free> shared_;
  Fiber outside_;
  uint32_t current_ = 0;
  uint32_t current_warp_ = 0;
  bool backwards_ = false;  // of the lanes that are ready, the last one first
  uint32_t num_waiting_ = 0, num_ended_ = 0;
  std::string failure_;
  Random random_{1};
};

Block the_block;

void run_thread() {
  Fiber::begun();
  for (;;) {
    the_block.call_body();
    the_block.end_thread();
  }
}

/// Some order of [0, count), each once: `step` and `count` have no common divisor.
struct Order {
  size_t first, step, count;

  Order(Random& random, size_t num) : first(random.next_below(num)), step(1), count(num) {
    do step = 1 + random.next_below(num);
    while (std::gcd(step, num) != 1);
  }
  size_t operator[](size_t i) const { return (first + i * step) % count; }
};

std::string Block::run(const Grid& grid) {
  const std::scoped_lock lock(mutex);
  grid_ = &grid;
  failure_.clear();
  allocate(grid);
  const Index& blocks = grid.num_blocks;
  const Order order(random_, size_t(blocks.x) * blocks.y * blocks.z);
  for (size_t i = 0; i < order.count && failure_.empty(); ++i) {
    const size_t number = order[i];
    run_block({uint32_t(number % blocks.x), uint32_t(number / blocks.x % blocks.y),
               uint32_t(number / blocks.x / blocks.y)});
  }
  shared_.reset();
  // Threads that were stopped somewhere in the middle cannot begin anew.
  if (!failure_.empty()) threads_.clear();
  return failure_;
}

void Block::allocate(const Grid& grid) {
  PREGATE_CHECK(grid.num_threads > 0 && grid.num_threads % kLanes == 0);
  while (threads_.size() < grid.num_threads) {
    threads_.push_back(std::make_unique<Thread>(run_thread));
  }
  warps_.resize(grid.num_threads / kLanes);
  if (grid.shared_bytes == 0) return;
  void* memory = nullptr;  // exactly as much, for the address sanitizer
  PREGATE_CHECK(posix_memalign(&memory, kSharedAlignment, grid.shared_bytes) == 0);
  shared_.reset(static_cast<std::byte*>(memory));
}

void Block::run_block(const Index& index) {
  block_index = index;
  block_count = grid_->num_blocks;
  thread_count = {grid_->num_threads, 1, 1};
  if (shared_) std::memset(shared_.get(), kUnwritten, grid_->shared_bytes);
  if (__start_emulated_shared != nullptr) {
    std::memset(__start_emulated_shared, kUnwritten,
                size_t(__stop_emulated_shared - __start_emulated_shared));
  }
  forget_barriers();
  forget_products();
  for (Warp& warp : warps_) warp = {.ready = kAllLanes};
  for (uint32_t i = 0; i < grid_->num_threads; ++i) {
    threads_[i]->waits_in = nullptr;
    threads_[i]->copies.clear();
  }
  num_waiting_ = num_ended_ = 0;
  backwards_ = random_.next_below(2) == 1;
  current_warp_ = uint32_t(random_.next_below(warps_.size()));
  choose_next();
  Fiber::switch_to(outside_, current().fiber);
}

bool Block::choose_next() {
  if (warps_[current_warp_].ready == 0 && !choose_warp()) return false;
  Warp& warp = warps_[current_warp_];
  const auto lane =
      uint32_t(backwards_ ? 31 - std::countl_zero(warp.ready) : std::countr_zero(warp.ready));
  warp.ready &= ~(1u << lane);
  current_ = current_warp_ * kLanes + lane;
  thread_index.x = current_;
  return true;
}

bool Block::choose_warp() {
  const auto count = uint32_t(warps_.size());
  const auto first = uint32_t(random_.next_below(count));
  for (uint32_t i = 0; i < count; ++i) {
    current_warp_ = (first + i) % count;
    if (warps_[current_warp_].ready != 0) return true;
  }
  return false;
}

void Block::run_another() {
  Thread& self = current();
  while (!choose_next()) {
    if (num_ended_ < grid_->num_threads && finish_a_copy(random_)) continue;
    note_end();
    return Fiber::switch_to(self.fiber, outside_);
  }
  if (&current() != &self) Fiber::switch_to(self.fiber, current().fiber);
}

void Block::note_end() {
  std::string reason;
  if (num_ended_ < grid_->num_threads) {
    reason = "threads wait for one another: " + describe_waiting();
  } else if (finish_a_copy(random_)) {
    reason = "it ended before its copies did";
  } else {
    return;
  }
  failure_ =
      fmt::format("block ({}, {}, {}): {}", block_index.x, block_index.y, block_index.z, reason);
}

/// "threads 0 to 31 in __syncthreads, threads 32 to 63 in their end".
std::string Block::describe_waiting() const {
  std::string text;
  for (uint32_t first = 0, end = 0; first < grid_->num_threads; first = end) {
    const char* const place = threads_[first]->waits_in;
    while (end < grid_->num_threads && threads_[end]->waits_in == place) ++end;
    text += fmt::format("{}threads {} to {} {} {}", first > 0 ? ", " : "", first, end - 1,
                        place == kEnd ? "at" : "in", place);
  }
  return text;
}

void Block::meet(const WarpOperation& operation, void* operands) {
  Warp& warp = warps_[current_warp_];
  const uint32_t lane = current_ % kLanes;
  if (warp.arrived == 0) warp.operation = &operation;
  if (warp.operation != &operation) {
    emulated::fail("lanes of one warp are apart, in {} and {}", warp.operation->name,
                   operation.name);
  }
  warp.operands[lane] = operands;
  warp.arrived |= 1u << lane;
  if (warp.arrived == kAllLanes) {
    operation.work(warp.operands);
    warp.arrived = 0;
    warp.ready = kAllLanes & ~(1u << lane);
    return;
  }
  stop(operation.name);
}

void Block::wait() {
  if (++num_waiting_ == grid_->num_threads) {
    num_waiting_ = 0;
    for (Warp& warp : warps_) warp.ready = kAllLanes;
    warps_[current_warp_].ready &= ~(1u << current_ % kLanes);
    // As good as any other order, and what was right by the last one's chance now shows.
    backwards_ = random_.next_below(2) == 1;
    return;
  }
  stop(kBarrier);
}

void Block::stop(const char* place) {
  current().waits_in = place;
  run_another();
}

void Block::end_thread() {
  ++num_ended_;
  stop(kEnd);
}

void Block::note_failure(const std::string& reason) {
  failure_ = fmt::format("block ({}, {}, {}), thread {}: {}", block_index.x, block_index.y,
                         block_index.z, current_, reason);
}

void Block::abandon() {
  Fiber::switch_to(current().fiber, outside_);
  std::abort();
}

}  // namespace

std::string run(const Grid& grid) { return the_block.run(grid); }

void meet(const WarpOperation& operation, void* operands) { the_block.meet(operation, operands); }

void wait_for_block() { the_block.wait(); }

void stop(const char* place) { the_block.stop(place); }

void go_on(uint32_t thread) { the_block.go_on(thread); }

void note_failure(const std::string& reason) { the_block.note_failure(reason); }

void abandon_kernel() { the_block.abandon(); }

std::byte* shared_memory() { return the_block.shared_memory(); }

uint32_t shared_address(const void* pointer) {
  const auto offset =
      reinterpret_cast<uintptr_t>(pointer) - reinterpret_cast<uintptr_t>(the_block.shared_memory());
  if (offset >= the_block.shared_bytes()) fail("the address of what is not in shared memory");
  return kFirstAddress + uint32_t(offset);
}

std::byte* shared_pointer(uint32_t address, size_t bytes, size_t alignment) {
  const uint32_t offset = address - kFirstAddress;
  if (address < kFirstAddress || offset + bytes > the_block.shared_bytes()) {
    fail("{} bytes at {} of {} bytes of shared memory", bytes, int64_t(offset),
         the_block.shared_bytes());
  }
  if (offset % alignment != 0) fail("{} bytes of shared memory at {}", bytes, offset);
  return the_block.shared_memory() + offset;
}

void copy_later(uint32_t to, const void* from, uint32_t bytes) {
  std::byte* const place = shared_pointer(to, bytes, bytes);
  if (reinterpret_cast<uintptr_t>(from) % bytes != 0) fail("a copy from an odd address");
  std::memset(place, kUnwritten, bytes);
  the_block.current().copies.copies.push_back({place, from, bytes});
}

void close_group() {
  Copies& copies = the_block.current().copies;
  copies.ends.push_back(copies.copies.size());
}

void wait_for_groups(size_t num_pending) {
  Copies& copies = the_block.current().copies;
  for (; copies.num_done + num_pending < copies.ends.size(); ++copies.num_done) {
    const size_t first = copies.num_done == 0 ? 0 : copies.ends[copies.num_done - 1];
    for (size_t i = first; i < copies.ends[copies.num_done]; ++i) {
      std::memcpy(copies.copies[i].to, copies.copies[i].from, copies.copies[i].bytes);
    }
  }
}

}  // namespace pregate::emulated
