// Large payloads by NCCL, from GPU to GPU; everything else, and whatever NCCL does not get across,
// by the transport that it is put around (UCX or MPI). So NCCL can fail without a message being
// lost, and processes with and without it work in one cluster: the hello says who has it.
//
// A lane (lane.h) goes one way, has a communicator of its own, and is made when the first large
// payload is sent to a peer, which by the carrier goes meanwhile. A peer that comes, goes or comes
// back so never touches the lanes of others; no call waits for all of them.
#pragma once

#include <memory>

#include "transport/nccl/lane.h"
#include "transport/transport.h"

namespace pregate::transport {

struct NcclOptions {
  /// Smaller payloads go by the carrier: launching NCCL's kernels takes longer.
  size_t min_payload_bytes = size_t{256} << 10;
  /// Of one peer, by lane and carrier together.
  size_t max_in_flight_bytes = kDefaultInFlightBytes;
  Duration join_timeout = std::chrono::seconds(30);
  /// How long a payload may not move. What is sent after it, heartbeats too, waits for it: shorter
  /// than the silence after which a peer is given up.
  Duration max_stall = std::chrono::milliseconds(2500);
  /// After a lane broke, until another one is tried; twice as long each time.
  Duration first_pause = std::chrono::seconds(10);
  Duration max_pause = std::chrono::hours(1);
  /// Of the lanes' device. With it payloads may have tails, which go from there and, if the other
  /// end sent one, arrive there. Null: all payloads come from host memory and go there.
  std::shared_ptr<DeviceMemory> device_memory;
};

/// What happens to lanes. Called by any thread, with locks held: no call may wait.
class NcclProbe {
 public:
  virtual ~NcclProbe() = default;
  /// Of both ways, joined and not broken.
  virtual void lanes_changed(int /*by*/) {}
  /// What a lane brought. `on_device`: from, or into, device memory here, without the host.
  virtual void sent(size_t /*bytes*/, bool /*on_device*/) {}
  virtual void received(size_t /*bytes*/, bool /*on_device*/) {}
  /// Or it never came up; told at the end that sends.
  virtual void lane_broke() {}
};

/// A tail (payload.h) that is sent goes over the lane from where it is, without the host; if there
/// is none now (takes_tail()), send() waits until the host has it. One that arrives is in
/// `device_memory`, or on the host, where there is no such memory or no room in it. A tail that
/// lies in other memory than `device_memory` goes by way of the host.
///
/// Of messages with an empty header the payload may have 64 bytes less than kMaxPayloadBytes.
///
/// `carrier` is not started yet; it and `probe` outlive what is made. An offered lane is accepted
/// only from who was launched with this process, was dialled by it (connect()), or was sent a
/// payload, as the layer above does with those it knows: what a stranger says does not reach NCCL.
std::unique_ptr<Transport> make_nccl_transport(Transport& carrier, std::shared_ptr<LaneMaker> lanes,
                                               NcclProbe& probe, const NcclOptions& options);

}  // namespace pregate::transport
