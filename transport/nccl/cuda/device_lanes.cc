#include "transport/nccl/cuda/device_lanes.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "transport/nccl/cuda/staging.h"

namespace pregate::transport {
namespace {

constexpr auto kSelfCheckTimeout = std::chrono::seconds(30);
constexpr int kSender = 0, kReceiver = 1;

class DeviceLane final : public Lane {
 public:
  explicit DeviceLane(int device) : device_(device) {}
  ~DeviceLane() override { cudaSetDevice(device_); }  // for what the members free

  Status join(const LaneKey& key, LaneEnd end, TimePoint until) override {
    PREGATE_TRY(check(cudaSetDevice(device_), "choosing the device"));
    PREGATE_TRY(staging_.allocate());
    const int rank = end == LaneEnd::kSender ? kSender : kReceiver;
    PREGATE_ASSIGN(comm_, Comm::join(key, rank, 2, {until, cancelled_}));
    return {};
  }
  Status send(std::span<const std::byte> bytes, Duration max_stall) override;
  Status receive(std::span<std::byte> bytes, Duration max_stall) override;
  void cancel() override { cancelled_ = true; }

 private:
  /// Of what is begun now.
  Patience patience(Duration max_stall) const {
    return {TimePoint::clock::now() + max_stall, cancelled_};
  }
  Status wait(size_t piece, Duration max_stall) const {
    return Staging::wait(staging_.slot(piece), *comm_, patience(max_stall));
  }

  const int device_;
  std::atomic<bool> cancelled_{false};
  Staging staging_;
  std::unique_ptr<Comm> comm_;  // ends before what its kernels use
};

size_t num_pieces(size_t bytes) { return (bytes + kStagedBytes - 1) / kStagedBytes; }

template <typename Byte>
std::span<Byte> piece_of(std::span<Byte> bytes, size_t piece) {
  const size_t first = piece * kStagedBytes;
  return bytes.subspan(first, std::min(kStagedBytes, bytes.size() - first));
}

Status DeviceLane::send(std::span<const std::byte> bytes, Duration max_stall) {
  const size_t pieces = num_pieces(bytes.size());
  for (size_t i = 0; i < pieces; ++i) {
    const Staging::Slot& slot = staging_.slot(i);
    const auto piece = piece_of(bytes, i);
    if (i >= kNumSlots) PREGATE_TRY(wait(i, max_stall));
    std::memcpy(slot.pinned, piece.data(), piece.size());
    PREGATE_TRY(staging_.upload(slot, piece.size()));
    PREGATE_TRY(
        comm_->send(slot.device, piece.size(), kReceiver, staging_.stream(), patience(max_stall)));
    PREGATE_TRY(staging_.sent(slot));
  }
  for (size_t i = 0; i < std::min(pieces, kNumSlots); ++i) {
    PREGATE_TRY(wait(i, max_stall));
  }
  return {};
}

Status DeviceLane::receive(std::span<std::byte> bytes, Duration max_stall) {
  const auto begin = [&](size_t i) -> Status {
    const Staging::Slot& slot = staging_.slot(i);
    const size_t size = piece_of(bytes, i).size();
    PREGATE_TRY(comm_->receive(slot.device, size, kSender, staging_.stream(), patience(max_stall)));
    return staging_.download(slot, size);
  };
  const size_t pieces = num_pieces(bytes.size());
  for (size_t i = 0; i < std::min(pieces, kNumSlots); ++i) PREGATE_TRY(begin(i));
  for (size_t i = 0; i < pieces; ++i) {
    PREGATE_TRY(wait(i, max_stall));
    const auto piece = piece_of(bytes, i);
    std::memcpy(piece.data(), staging_.slot(i).pinned, piece.size());
    if (const size_t next = i + kNumSlots; next < pieces) PREGATE_TRY(begin(next));
  }
  return {};
}

class DeviceLanes final : public LaneMaker {
 public:
  explicit DeviceLanes(int device) : device_(device) {}

  Result<LaneKey> make_key() override {
    ncclUniqueId id;
    PREGATE_TRY(check(ncclGetUniqueId(&id), nullptr, "making an id"));
    LaneKey key;
    std::memcpy(key.data(), &id, key.size());
    return key;
  }
  std::unique_ptr<Lane> make_lane() override { return std::make_unique<DeviceLane>(device_); }

  /// Bytes from the device to itself, by a communicator of one rank.
  Status check_itself();

 private:
  const int device_;
};

Status DeviceLanes::check_itself() {
  const std::atomic<bool> never{false};
  const Patience patience{TimePoint::clock::now() + kSelfCheckTimeout, never};
  PREGATE_TRY(check(cudaSetDevice(device_), "choosing the device"));
  Staging staging;
  PREGATE_TRY(staging.allocate());
  PREGATE_ASSIGN(const LaneKey key, make_key());
  PREGATE_ASSIGN(const auto comm, Comm::join(key, 0, 1, patience));
  const auto &from = staging.slot(0), &to = staging.slot(1);
  for (size_t i = 0; i < kStagedBytes; ++i) from.pinned[i] = std::byte(i * 31 >> 3);
  PREGATE_TRY(staging.upload(from, kStagedBytes));
  PREGATE_TRY(comm->echo(from.device, to.device, kStagedBytes, 0, staging.stream(), patience));
  PREGATE_TRY(staging.download(to, kStagedBytes));
  PREGATE_TRY(Staging::wait(to, *comm, patience));
  if (std::memcmp(from.pinned, to.pinned, kStagedBytes) == 0) return {};
  return fail(ErrorCode::kUnavailable, "NCCL does not bring the device its own bytes");
}

Status check_device(size_t device) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count)) {
    return fail(ErrorCode::kUnimplemented, "no CUDA driver that will do: {}",
                cudaGetErrorString(error));
  }
  if (device < size_t(count)) return {};
  return fail(ErrorCode::kNotFound, "this machine has {} CUDA device{}", count,
              count == 1 ? "" : "s");
}

}  // namespace

std::string nccl_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "unknown";
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

namespace {

/// What NCCL and CUDA take from the environment once, when they are first used.
void prepare_environment() {
  // Either would have a communicator of ours be another one, or block.
  ::unsetenv("NCCL_COMM_ID");
  ::unsetenv("NCCL_COMM_BLOCKING");
  // Streams that share a hardware queue wait for each other; each lane has three.
  ::setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*overwrite=*/0);
}

}  // namespace

Result<std::shared_ptr<LaneMaker>> open_device_lanes(size_t device) {
  prepare_environment();
  PREGATE_TRY(check_device(device));
  auto lanes = std::make_shared<DeviceLanes>(int(device));
  PREGATE_TRY(lanes->check_itself());
  return lanes;
}

}  // namespace pregate::transport
