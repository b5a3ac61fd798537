// Stands in for NCCL where there is no GPU: lanes that are sockets, between threads as between
// processes of one host.
#pragma once

#include <atomic>
#include <memory>

#include "transport/nccl/nccl.h"

namespace pregate::transport {

/// Small and large payloads are mixed, and a broken lane is soon tried again.
NcclOptions eager_options(size_t max_in_flight_bytes);

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
