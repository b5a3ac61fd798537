// Tables that follow from the sequences of a step. Those are the same in each of its layers, so
// that tables are made and sent in the first one and stay on the device for the others.
#pragma once

#include <span>
#include <vector>

#include "compute/backend.h"
#include "compute/cuda/attention_plan.h"
#include "compute/cuda/outbox.h"

namespace pregate::compute::cuda {

/// What tables say of sequences: all but the numbers of their rows.
class KnownSequences {
 public:
  bool are(std::span<const SequenceRows> sequences) const;
  void become(std::span<const SequenceRows> sequences);

 private:
  struct Sequence {
    size_t num_rows = 0, first_position = 0, num_blocks = 0;
    bool operator==(const Sequence&) const = default;
  };

  std::vector<Sequence> sequences_;
  std::vector<uint32_t> blocks_;  // of one sequence after the other
};

/// Where each row's keys and values go (PlaceHeadsArgs::slots).
class KeptSlots {
 public:
  KeptSlots(Device& device, Stream& stream, size_t num_blocks)
      : stream_(stream), num_blocks_(num_blocks), memory_(device, stream) {}

  size_t num_blocks() const { return num_blocks_; }
  /// Device address, until the next call. The sequences' blocks must be there and below
  /// num_blocks().
  Result<const uint32_t*> of(std::span<const SequenceRows> sequences, Outbox& outbox);

 private:
  Stream& stream_;
  const size_t num_blocks_;  // of the KV cache
  DeviceScratch memory_;
  KnownSequences known_;
  const uint32_t* slots_ = nullptr;
};

/// Tables of an AttentionPlan on the device. Their counts grow in steps, and so do their addresses
/// change seldom from step to step: what was recorded with them can be done again (recordings.h).
struct AttentionTables {
  size_t num_rows = 0;
  size_t num_partials = 0;  ///< Or some more.
  const AttentionTile* tiles = nullptr;
  AttentionWork few, many;
  const uint32_t* blocks = nullptr;
  const uint32_t* first_partial = nullptr;
};

/// The same of a plan.
class KeptPlan {
 public:
  struct Key {
    AttentionHeads heads;
    size_t num_blocks = 0;  ///< Of the KV cache.
    bool operator==(const Key&) const = default;
  };

  KeptPlan(Device& device, Stream& stream, const Key& key)
      : stream_(stream), key_(key), memory_(device, stream) {}

  const Key& key() const { return key_; }
  /// Until the next call.
  Result<AttentionTables> of(std::span<const SequenceRows> sequences, Outbox& outbox);

 private:
  Status send(const AttentionPlan& plan, Outbox& outbox);

  Stream& stream_;
  const Key key_;
  DeviceScratch memory_;
  KnownSequences known_;
  AttentionTables tables_;
};

}  // namespace pregate::compute::cuda
