// What the lanes of one transport share.
#pragma once

#include <mutex>

#include "transport/nccl/nccl.h"
#include "transport/nccl/note.h"

namespace pregate::transport {

struct NcclShared {
  Transport& carrier;
  LaneMaker& lanes;
  NcclProbe& probe;
  const NcclOptions& options;
  const Events events;
  /// Held while anything above is called: by threads of lanes as by those of the carrier, one at a
  /// time. Taken before all other locks.
  std::mutex callback_mutex;

  Status tell(PeerId peer, const Note& note, std::span<const std::byte> rest = {}) {
    return carrier.send(peer, {}, encode_note(note, rest), {});
  }
};

/// Whether this thread is a lane's: nobody does the carrier's work after it, so what it queues must
/// wake somebody.
inline thread_local bool is_lane_thread = false;

/// What a lane's thread waits for when the carrier has no room for a note.
inline constexpr auto kNoteRetry = std::chrono::milliseconds(10);

}  // namespace pregate::transport
