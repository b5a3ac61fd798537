// What the lanes of one transport share.
#pragma once

#include <atomic>
#include <mutex>

#include "transport/nccl/nccl.h"

namespace pregate::transport {

struct NcclShared {
  Transport& carrier;
  LaneMaker& lanes;
  const NcclOptions& options;
  const Events events;
  /// Held while anything above is called: by threads of lanes as by those of the carrier, one at a
  /// time. Taken before all other locks.
  std::mutex callback_mutex;

  std::atomic<size_t> num_lanes{0};
  std::atomic<uint64_t> sent_bytes{0};
  std::atomic<uint64_t> received_bytes{0};
  std::atomic<uint64_t> broken_lanes{0};

  NcclStats stats() const { return {num_lanes, sent_bytes, received_bytes, broken_lanes}; }
};

/// What a lane's thread waits for when the carrier has no room for a note.
inline constexpr auto kNoteRetry = std::chrono::milliseconds(10);

}  // namespace pregate::transport
