// Which expert leaves a full cache for another one.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "worker/experts/cache/known_uses.h"

namespace pregate::worker {

/// Told of everything that happens to the experts of one cache; not thread-safe, and never calls
/// back.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// As --expert-eviction has it.
  virtual std::string_view name() const = 0;
  /// An expert was brought in, and is not used yet.
  virtual void loaded(const ExpertKey& /*key*/) {}
  /// A batch needs it at this time: told when it is asked for, whether it is there or not.
  virtual void used(const ExpertKey& /*key*/, router::LayerTime /*now*/) {}
  virtual void evicted(const ExpertKey& /*key*/) {}
  /// The index of one of `candidates`, of which there is at least one; all were loaded and none is
  /// being computed with. `uses`: what is known of the future.
  virtual size_t choose(std::span<const ExpertKey> candidates, const KnownUses& uses) = 0;
};

struct EvictionOptions {
  uint64_t seed = 1;      ///< Of "random".
  size_t num_layers = 1;  ///< Of the model, by which times are counted.
};

/// "random", "lru" (least recently used), "lfu" (least often used since the start; least recently
/// among equals) or "belady" (needed again last, as far as plans say; after them, as its use so far
/// makes likely: see use_rates.h). Error: kInvalidArgument with the known names.
Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             const EvictionOptions& options);

std::vector<std::string> eviction_policy_names();

}  // namespace pregate::worker
