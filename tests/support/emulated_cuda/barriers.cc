#include "tests/support/emulated_cuda/barriers.h"

#include <cstring>
#include <map>
#include <vector>

#include "tests/support/emulated_cuda/block.h"

namespace pregate::emulated {
namespace {

constexpr size_t kBarrierBytes = 8, kChunkBytes = 16;

struct Barrier {
  uint32_t num_arrivals = 0;  // of a phase
  uint32_t num_missing = 0;   // of this one
  int64_t missing_bytes = 0;  // less than 0: they came before they were expected
  uint32_t phase = 0;
  std::vector<uint32_t> waiting;  // threads
};

struct Copy {
  std::byte* to = nullptr;
  const void* from = nullptr;
  uint32_t bytes = 0;
  uint32_t barrier = 0;
};

struct State {
  std::map<uint32_t, Barrier> barriers;  // by address
  std::vector<Copy> copies;
};

/// Of the one block that runs.
State state;

Barrier& find(uint32_t address) {
  const auto found = state.barriers.find(address);
  if (found == state.barriers.end()) fail("a barrier that was not made, at {}", address);
  return found->second;
}

void complete_if_nothing_is_missing(Barrier& barrier) {
  if (barrier.num_missing > 0 || barrier.missing_bytes != 0) return;
  ++barrier.phase;
  barrier.num_missing = barrier.num_arrivals;
  for (const uint32_t thread : barrier.waiting) go_on(thread);
  barrier.waiting.clear();
}

}  // namespace

void init_barrier(uint32_t barrier, uint32_t num_arrivals) {
  shared_pointer(barrier, kBarrierBytes, kBarrierBytes);
  if (!state.barriers.try_emplace(barrier, Barrier{num_arrivals, num_arrivals}).second) {
    fail("two barriers at {}", barrier);
  }
}

void arrive(uint32_t barrier) { arrive_expecting(barrier, 0); }

void arrive_expecting(uint32_t barrier, uint32_t bytes) {
  Barrier& known = find(barrier);
  if (known.num_missing == 0) fail("more arrivals than a barrier has, at {}", barrier);
  known.missing_bytes += bytes;
  --known.num_missing;
  complete_if_nothing_is_missing(known);
}

void wait_for_phase(uint32_t barrier, uint32_t parity) {
  while (find(barrier).phase % 2 == parity) {
    find(barrier).waiting.push_back(thread_index.x);
    stop("mbarrier.try_wait");
  }
}

void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  if (bytes % kChunkBytes != 0 || reinterpret_cast<uintptr_t>(from) % kChunkBytes != 0) {
    fail("a bulk copy of {} bytes from {}", bytes, from);
  }
  find(barrier);
  std::byte* const place = shared_pointer(to, bytes, kChunkBytes);
  std::memset(place, kUnwritten, bytes);
  state.copies.push_back({place, from, bytes, barrier});
}

void forget_barriers() { state = {}; }

bool finish_a_copy(Random& random) {
  if (state.copies.empty()) return false;
  std::swap(state.copies[random.next_below(state.copies.size())], state.copies.back());
  const Copy copy = state.copies.back();
  state.copies.pop_back();
  std::memcpy(copy.to, copy.from, copy.bytes);
  Barrier& barrier = state.barriers.at(copy.barrier);
  barrier.missing_bytes -= copy.bytes;
  complete_if_nothing_is_missing(barrier);
  return true;
}

}  // namespace pregate::emulated
