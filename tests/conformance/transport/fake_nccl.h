// Stands in for libnccl and the CUDA runtime, so that the code of the NCCL module is run where
// there is no GPU: "device memory" is the host's, but what lies there is scrambled, a stream is a
// thread, and communicators connect threads of one process. What the real ones would not bear (host
// memory given to NCCL, memory freed that it is at work in, two sizes that do not match) ends the
// test.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/device_memory.h"

namespace pregate::transport {

struct FakeNccl {
  bool has_driver = true;
  int num_devices = 1;
  /// How many in a thousand transfers fail, as if the network did.
  uint32_t failures = 0;
  /// What is received are other bytes.
  bool is_corrupt = false;
  /// Before each thing a stream does.
  std::chrono::microseconds delay{0};
};

/// Before anything else of a test, by one thread.
void set_fake_nccl(const FakeNccl& fake);

/// Device memory as what computes there gives it to the transport; at most so much at a time.
std::shared_ptr<DeviceMemory> fake_device_memory(size_t max_bytes = SIZE_MAX);

/// Allocations, streams and communicators that were not given back.
size_t num_fake_leaks();

}  // namespace pregate::transport
