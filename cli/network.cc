#include "cli/network.h"

#include "base/bytes.h"
#include "base/log.h"
#include "monitoring/metrics/nccl_probe.h"
#include "transport/nccl/loader.h"
#include "transport/nccl/nccl.h"

namespace pregate::cli {
namespace {

class PlainNetwork final : public Network {
 public:
  explicit PlainNetwork(transport::Transport& carrier) : carrier_(carrier) {}
  transport::Transport& transport() override { return carrier_; }

 private:
  transport::Transport& carrier_;
};

/// Binds what the transport tells to the metrics.
class NcclMetrics final : public transport::NcclProbe {
 public:
  explicit NcclMetrics(monitoring::Registry& registry) : metrics_(registry) {}

  void lanes_changed(int by) override { metrics_.lanes_changed(by); }
  void sent(size_t bytes) override { metrics_.sent(bytes); }
  void received(size_t bytes) override { metrics_.received(bytes); }
  void lane_broke() override { metrics_.lane_broke(); }

 private:
  monitoring::NcclProbe metrics_;
};

class NcclNetwork final : public Network {
 public:
  NcclNetwork(transport::Transport& carrier, std::shared_ptr<transport::LaneMaker> lanes,
              const transport::NcclOptions& options, monitoring::Registry& registry)
      : metrics_(registry),
        transport_(transport::make_nccl_transport(carrier, std::move(lanes), metrics_, options)) {}
  transport::Transport& transport() override { return *transport_; }

 private:
  NcclMetrics metrics_;
  const std::unique_ptr<transport::Transport> transport_;
};

}  // namespace

Result<std::unique_ptr<Network>> make_network(const ClusterOptions& options,
                                              transport::Transport& carrier,
                                              monitoring::Registry& registry) {
  const NcclFlags& flags = options.nccl;
  if (flags.device.empty()) return std::make_unique<PlainNetwork>(carrier);
  auto lanes = transport::open_nccl(flags.device);
  if (!lanes) return fail(in_context(std::move(lanes.error()), "--nccl"));
  spdlog::info("NCCL {} on {}: payloads of {} and more go by it", transport::describe_nccl(),
               flags.device, describe_bytes(flags.min_payload_bytes));
  // A lane that hangs is given up before the peer would be.
  const transport::NcclOptions nccl{.min_payload_bytes = flags.min_payload_bytes,
                                    .max_stall = options.dead_after / 4};
  return std::make_unique<NcclNetwork>(carrier, std::move(*lanes), nccl, registry);
}

Status refuse_nccl(const NcclFlags& flags) {
  if (flags.device.empty()) return {};
  return fail(ErrorCode::kInvalidArgument,
              "--nccl {}: is for a coordinator and workers that are started each with a GPU of its "
              "own, one by one (--listen and --join) or by mpirun",
              flags.device);
}

}  // namespace pregate::cli
