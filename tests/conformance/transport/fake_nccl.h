// Stands in for libnccl and the CUDA runtime, so that the code of the NCCL module is run where
// there is no GPU: "device memory" is the host's, a stream is a thread, and communicators connect
// threads of one process. What the real ones would not bear (host memory given to NCCL, two sizes
// that do not match) ends the test.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

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

/// Allocations, streams and communicators that were not given back.
size_t num_fake_leaks();

}  // namespace pregate::transport
