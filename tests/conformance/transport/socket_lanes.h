// Stands in for NCCL where there is no GPU: lanes that are sockets, between threads as between
// processes of one host.
#pragma once

#include <atomic>
#include <memory>

#include "transport/nccl/nccl.h"

namespace pregate::transport {

/// Small and large payloads are mixed, and a broken lane is soon tried again.
NcclOptions eager_options(size_t max_in_flight_bytes);

/// Counts what it is told.
struct CountingProbe final : NcclProbe {
  void lanes_changed(int by) override { lanes += by; }
  void sent(size_t bytes, bool on_device) override {
    sent_bytes += bytes;
    if (on_device) device_sent_bytes += bytes;
  }
  void received(size_t bytes, bool on_device) override {
    received_bytes += bytes;
    if (on_device) device_received_bytes += bytes;
  }
  void lane_broke() override { ++broken_lanes; }

  std::atomic<int64_t> lanes{0};
  std::atomic<uint64_t> sent_bytes{0}, received_bytes{0}, broken_lanes{0};
  std::atomic<uint64_t> device_sent_bytes{0}, device_received_bytes{0};  // of those
};

struct SocketLanesOptions {
  /// How many in a thousand joins and transfers fail, in the middle.
  uint32_t failures = 0;
  uint64_t seed = 1;
};

class SocketLanes final : public LaneMaker {
 public:
  explicit SocketLanes(const SocketLanesOptions& options = {}) : options_(options) {}
  Result<LaneKey> make_key() override;
  std::unique_ptr<Lane> make_lane() override;
  uint64_t num_made() const { return num_made_; }

 private:
  const SocketLanesOptions options_;
  std::atomic<uint64_t> num_made_{0};
};

}  // namespace pregate::transport
