#include "transport/nccl/cuda/staging.h"

namespace pregate::transport {

namespace {

Status make_stream(cudaStream_t& stream) {
  return check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a new stream");
}

Status record(cudaEvent_t event, cudaStream_t stream) {
  return check(cudaEventRecord(event, stream), "recording an event");
}

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
  return check(cudaEventCreateWithFlags(&slot.event, cudaEventDisableTiming), "a new event");
}

}  // namespace

Staging::~Staging() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  for (const Slot& slot : slots_) {
    if (slot.copies != nullptr) cudaStreamDestroy(slot.copies);
    if (slot.event != nullptr) cudaEventDestroy(slot.event);
    if (slot.device != nullptr) cudaFree(slot.device);
    if (slot.pinned != nullptr) cudaFreeHost(slot.pinned);
  }
}

Status Staging::allocate() {
  PREGATE_TRY(make_stream(stream_));
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

Status Staging::wait(const Slot& slot, const Comm& comm, const Patience& patience) {
  for (Pause pause;; pause.wait()) {
    const cudaError_t state = cudaEventQuery(slot.event);
    // Also when it is done: what a communicator that broke has left in memory is no payload. That
    // the other end's broke may go unnoticed here (lane.h).
    PREGATE_TRY(comm.check_progress());
    if (state != cudaErrorNotReady) return check(state, "waiting for the device");
    PREGATE_TRY(patience.check("waiting for the other end"));
  }
}

}  // namespace pregate::transport
