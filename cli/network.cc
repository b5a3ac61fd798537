#include "cli/network.h"

#include <mutex>

#include "base/bytes.h"
#include "base/cuda_name.h"
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
  void sent(size_t bytes, bool on_device) override { metrics_.sent(bytes, on_device); }
  void received(size_t bytes, bool on_device) override { metrics_.received(bytes, on_device); }
  void lane_broke() override { metrics_.lane_broke(); }

 private:
  monitoring::NcclProbe metrics_;
};

/// Known only once the model is loaded; there is no room before.
class LateMemory final : public DeviceMemory {
 public:
  void set(std::shared_ptr<DeviceMemory> memory) {
    std::lock_guard lock(mutex_);
    memory_ = std::move(memory);
  }
  Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) override {
    if (const auto memory = get()) return memory->allocate(bytes);
    return fail(ErrorCode::kResourceExhausted, "the device is not used yet");
  }
  Status read(std::span<std::byte> to, const std::byte* from) override {
    return get()->read(to, from);
  }
  Status write(std::byte* to, std::span<const std::byte> from) override {
    return get()->write(to, from);
  }

 private:
  std::shared_ptr<DeviceMemory> get() const {
    std::lock_guard lock(mutex_);
    return memory_;
  }

  mutable std::mutex mutex_;
  std::shared_ptr<DeviceMemory> memory_;  // guarded by mutex_
};

class NcclNetwork final : public Network {
 public:
  NcclNetwork(transport::Transport& carrier, std::shared_ptr<transport::LaneMaker> lanes,
              transport::NcclOptions options, std::string device, monitoring::Registry& registry)
      : device_(std::move(device)), metrics_(registry) {
    options.device_memory = memory_;
    transport_ = transport::make_nccl_transport(carrier, std::move(lanes), metrics_, options);
  }
  transport::Transport& transport() override { return *transport_; }
  std::shared_ptr<DeviceMemory> share(compute::Backend& backend) override {
    if (backend.name() != device_) return nullptr;
    memory_->set(backend.shared_rows());
    return memory_;
  }

 private:
  const std::string device_;
  const std::shared_ptr<LateMemory> memory_ = std::make_shared<LateMemory>();
  NcclMetrics metrics_;
  std::unique_ptr<transport::Transport> transport_;
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
  PREGATE_ASSIGN(const size_t device, parse_cuda_name(flags.device));
  return std::make_unique<NcclNetwork>(carrier, std::move(*lanes), nccl, cuda_name(device),
                                       registry);
}

Status refuse_nccl(const NcclFlags& flags) {
  if (flags.device.empty()) return {};
  return fail(ErrorCode::kInvalidArgument,
              "--nccl {}: is for a coordinator and workers that are started each with a GPU of its "
              "own, one by one (--listen and --join) or by mpirun",
              flags.device);
}

}  // namespace pregate::cli
