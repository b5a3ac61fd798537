// Randomness is passed in and always comes from a stated seed.
#pragma once

#include <cstdint>
#include <random>

namespace pregate {

/// A seeded stream: the same seed gives the same numbers on every platform (std::mt19937_64 is
/// fully specified; the standard library's distributions are not, hence our own). Not thread-safe.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  uint64_t next_u64() { return engine_(); }
  /// Uniform in [0, 1), with 53 random bits.
  double next_double();
  /// Uniform in [0, bound); bound > 0.
  uint64_t next_below(uint64_t bound);
  /// Standard normal (Box-Muller).
  double next_normal();

 private:
  std::mt19937_64 engine_;
};

/// A seed from the operating system, for callers that were not given one.
uint64_t seed_from_system();

}  // namespace pregate
