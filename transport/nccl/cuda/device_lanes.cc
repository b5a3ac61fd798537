#include "transport/nccl/cuda/device_lanes.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "transport/nccl/cuda/comm.h"
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
    PREGATE_TRY(stream_.open());
    // Now: once NCCL waits on the device for the other end, memory of it may have to wait too.
    PREGATE_TRY(staging_.allocate(stream_));
    const int rank = end == LaneEnd::kSender ? kSender : kReceiver;
    PREGATE_ASSIGN(comm_, Comm::join(key, rank, 2, {until, cancelled_}));
    return {};
  }
  Status send(const LaneBytes<const std::byte>& from, Duration max_stall) override {
    return from.memory == nullptr ? send_from_host(from.bytes, max_stall)
                                  : send_from_device(from.bytes, max_stall);
  }
  Status receive(const LaneBytes<std::byte>& to, Duration max_stall) override {
    return to.memory == nullptr ? receive_to_host(to.bytes, max_stall)
                                : receive_to_device(to.bytes, max_stall);
  }
  void cancel() override { cancelled_ = true; }

 private:
  // Pieces are the same either way, as one end does not know where the other's bytes are.
  Status send_from_host(std::span<const std::byte> bytes, Duration max_stall);
  Status send_from_device(std::span<const std::byte> bytes, Duration max_stall);
  Status receive_to_host(std::span<std::byte> bytes, Duration max_stall);
  Status receive_to_device(std::span<std::byte> bytes, Duration max_stall);

  using Begin = std::function<Status(size_t piece)>;
  Status do_all(size_t pieces, Duration max_stall, const Begin& begin) const;
  Status send_piece(std::span<const std::byte> piece, Duration max_stall) {
    return comm_->send(piece.data(), piece.size(), kReceiver, stream_.get(), patience(max_stall));
  }
  Status receive_piece(std::span<std::byte> piece, Duration max_stall) {
    return comm_->receive(piece.data(), piece.size(), kSender, stream_.get(), patience(max_stall));
  }
  /// Of what is begun now.
  Patience patience(Duration max_stall) const {
    return {TimePoint::clock::now() + max_stall, cancelled_};
  }
  /// For the slot of a piece.
  Status wait(size_t piece, Duration max_stall) const {
    return comm_->wait(staging_.slot(piece).event, patience(max_stall));
  }

  const int device_;
  std::atomic<bool> cancelled_{false};
  Staging staging_;
  LaneStream stream_;
  std::unique_ptr<Comm> comm_;  // ends before what its kernels use
};

size_t num_pieces(size_t bytes) { return (bytes + kStagedBytes - 1) / kStagedBytes; }

template <typename Byte>
std::span<Byte> piece_of(std::span<Byte> bytes, size_t piece) {
  const size_t first = piece * kStagedBytes;
  return bytes.subspan(first, std::min(kStagedBytes, bytes.size() - first));
}

/// Each begun some time before it is waited for.
Status DeviceLane::do_all(size_t pieces, Duration max_stall, const Begin& begin) const {
  for (size_t i = 0; i < pieces + kMaxBegun; ++i) {
    if (i >= kMaxBegun) {
      PREGATE_TRY(comm_->wait(stream_.end_of(i - kMaxBegun), patience(max_stall)));
    }
    if (i >= pieces) continue;
    PREGATE_TRY(begin(i));
    PREGATE_TRY(stream_.mark(i));
  }
  return {};
}

Status DeviceLane::send_from_device(std::span<const std::byte> bytes, Duration max_stall) {
  return do_all(num_pieces(bytes.size()), max_stall,
                [&](size_t i) { return send_piece(piece_of(bytes, i), max_stall); });
}

Status DeviceLane::receive_to_device(std::span<std::byte> bytes, Duration max_stall) {
  return do_all(num_pieces(bytes.size()), max_stall,
                [&](size_t i) { return receive_piece(piece_of(bytes, i), max_stall); });
}

Status DeviceLane::send_from_host(std::span<const std::byte> bytes, Duration max_stall) {
  const size_t pieces = num_pieces(bytes.size());
  for (size_t i = 0; i < pieces; ++i) {
    const Staging::Slot& slot = staging_.slot(i);
    const auto piece = piece_of(bytes, i);
    if (i >= kNumSlots) PREGATE_TRY(wait(i, max_stall));
    std::memcpy(slot.pinned, piece.data(), piece.size());
    PREGATE_TRY(staging_.upload(slot, piece.size()));
    PREGATE_TRY(send_piece({slot.device, piece.size()}, max_stall));
    PREGATE_TRY(staging_.sent(slot));
  }
  for (size_t i = 0; i < std::min(pieces, kNumSlots); ++i) {
    PREGATE_TRY(wait(i, max_stall));
  }
  return {};
}

Status DeviceLane::receive_to_host(std::span<std::byte> bytes, Duration max_stall) {
  const auto begin = [&](size_t i) -> Status {
    const Staging::Slot& slot = staging_.slot(i);
    const size_t size = piece_of(bytes, i).size();
    PREGATE_TRY(receive_piece({slot.device, size}, max_stall));
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

constexpr size_t kHalf = kStagedBytes / 2;

/// Another one in either half.
std::byte byte_of_check(size_t i) { return std::byte((i * 31 >> 3) + i / kHalf); }

/// From a slot to the other one and, as tails go, on from where that came to, in two pieces that
/// change places.
Status echo(Comm& comm, const Staging& staging, const LaneStream& stream,
            const Patience& patience) {
  const auto &here = staging.slot(0), &there = staging.slot(1);
  for (size_t i = 0; i < kStagedBytes; ++i) here.pinned[i] = byte_of_check(i);
  PREGATE_TRY(staging.upload(here, kStagedBytes));
  PREGATE_TRY(comm.echo(here.device, there.device, kStagedBytes, 0, stream.get(), patience));
  for (const size_t from : {size_t{0}, kHalf}) {
    const size_t to = kHalf - from;
    PREGATE_TRY(comm.echo(there.device + from, here.device + to, kHalf, 0, stream.get(), patience));
  }
  return staging.download(here, kStagedBytes);
}

Status DeviceLanes::check_itself() {
  const std::atomic<bool> never{false};
  const Patience patience{TimePoint::clock::now() + kSelfCheckTimeout, never};
  PREGATE_TRY(check(cudaSetDevice(device_), "choosing the device"));
  Staging staging;
  LaneStream stream;
  PREGATE_TRY(stream.open());
  PREGATE_TRY(staging.allocate(stream));
  PREGATE_ASSIGN(const LaneKey key, make_key());
  PREGATE_ASSIGN(const auto comm, Comm::join(key, 0, 1, patience));
  PREGATE_TRY(echo(*comm, staging, stream, patience));
  PREGATE_TRY(comm->wait(staging.slot(0).event, patience));
  const auto swapped = [](size_t i) { return byte_of_check((i + kHalf) % kStagedBytes); };
  for (size_t i = 0; i < kStagedBytes; ++i) {
    if (staging.slot(0).pinned[i] == swapped(i)) continue;
    return fail(ErrorCode::kUnavailable, "NCCL does not bring the device its own bytes");
  }
  return {};
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
  // Streams that share a hardware queue wait for each other; a lane has up to three.
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
