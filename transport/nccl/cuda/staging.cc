#include "transport/nccl/cuda/staging.h"

namespace pregate::transport {
namespace {

/// What `stream` does next comes after the event.
Status order(cudaStream_t stream, cudaEvent_t event) {
  return check(cudaStreamWaitEvent(stream, event, 0), "ordering streams");
}

Status make_slot(Staging::Slot& slot) {
  void *device = nullptr, *pinned = nullptr;
  PREGATE_TRY(check(cudaMalloc(&device, kStagedBytes), "device memory for NCCL"));
  slot.device = static_cast<std::byte*>(device);
  PREGATE_TRY(
      check(cudaHostAlloc(&pinned, kStagedBytes, cudaHostAllocDefault), "pinned memory for NCCL"));
  slot.pinned = static_cast<std::byte*>(pinned);
  PREGATE_TRY(make_stream(slot.copies));
  return make_event(slot.event);
}

}  // namespace

Staging::~Staging() {
  for (const Slot& slot : slots_) {
    if (slot.copies != nullptr) cudaStreamDestroy(slot.copies);
    if (slot.event != nullptr) cudaEventDestroy(slot.event);
    if (slot.device != nullptr) cudaFree(slot.device);
    if (slot.pinned != nullptr) cudaFreeHost(slot.pinned);
  }
}

Status Staging::allocate(const LaneStream& stream) {
  stream_ = stream.get();
  for (Slot& slot : slots_) PREGATE_TRY(make_slot(slot));
  return {};
}

Status Staging::upload(const Slot& slot, size_t bytes) const {
  PREGATE_TRY(
      check(cudaMemcpyAsync(slot.device, slot.pinned, bytes, cudaMemcpyHostToDevice, slot.copies),
            "copying to the device"));
  PREGATE_TRY(record(slot.event, slot.copies));
  return order(stream_, slot.event);
}

Status Staging::sent(const Slot& slot) const { return record(slot.event, stream_); }

Status Staging::download(const Slot& slot, size_t bytes) const {
  PREGATE_TRY(record(slot.event, stream_));
  PREGATE_TRY(order(slot.copies, slot.event));
  PREGATE_TRY(
      check(cudaMemcpyAsync(slot.pinned, slot.device, bytes, cudaMemcpyDeviceToHost, slot.copies),
            "copying from the device"));
  return record(slot.event, slot.copies);
}

}  // namespace pregate::transport
