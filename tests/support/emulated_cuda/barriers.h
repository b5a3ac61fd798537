// Barriers in shared memory and bulk copies that complete on them (sm_90), as the PTX ISA has them
// (chapter 9: mbarrier, cp.async.bulk). Copies end as late as they may, in any order: when no
// thread can go on without one.
#pragma once

#include <cstdint>

#include "base/random.h"

namespace pregate::emulated {

// For a thread of a block.

void init_barrier(uint32_t barrier, uint32_t num_arrivals);
void arrive(uint32_t barrier);
void arrive_expecting(uint32_t barrier, uint32_t bytes);
/// Until the phase of that parity is complete.
void wait_for_phase(uint32_t barrier, uint32_t parity);
void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier);

// For the block.

void forget_barriers();
/// False if none is under way.
bool finish_a_copy(Random& random);

}  // namespace pregate::emulated
