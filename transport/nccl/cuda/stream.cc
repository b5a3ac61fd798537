#include "transport/nccl/cuda/stream.h"

namespace pregate::transport {

Status make_stream(cudaStream_t& stream) {
  return check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a new stream");
}

Status make_event(cudaEvent_t& event) {
  return check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "a new event");
}

Status record(cudaEvent_t event, cudaStream_t stream) {
  return check(cudaEventRecord(event, stream), "recording an event");
}

LaneStream::~LaneStream() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  for (const cudaEvent_t end : ends_) {
    if (end != nullptr) cudaEventDestroy(end);
  }
}

Status LaneStream::open() {
  PREGATE_TRY(make_stream(stream_));
  for (cudaEvent_t& end : ends_) PREGATE_TRY(make_event(end));
  return {};
}

Status LaneStream::mark(size_t piece) const { return record(end_of(piece), stream_); }

}  // namespace pregate::transport
