// What the CUDA back end asks of a device: memory, copies and a handful of kernels, by plain
// structs of addresses. The module that is loaded at run time (module.h) implements it with CUDA;
// tests implement it on the processor, so that everything above it is tested without a device.
//
// "Device address" is an address in a device's memory, which nothing here reads. Layouts of weights
// and rows: layout.h.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "base/result.h"
#include "compute/cuda/args.h"
#include "compute/cuda/attention_args.h"
#include "compute/cuda/change_args.h"
#include "compute/cuda/draw_args.h"
#include "compute/cuda/route_args.h"
#include "compute/cuda/row_args.h"

namespace pregate::compute::cuda {

/// Work of a stream that was recorded, and can be done again and again without being launched piece
/// by piece.
class Recording {
 public:
  virtual ~Recording() = default;
};

/// Work done in order. Used by one thread at a time. A call returns before the work is done; what
/// fails shows in synchronize(), and nothing works after it: kUnavailable, the device is lost.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Host memory must stay until synchronize().
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  /// From pinned memory; what is small goes faster than by upload(). It may begin only with the
  /// next call: both places must stay until synchronize(). Size and addresses: multiples of 16.
  virtual void upload_pinned(void* to, const void* from, size_t bytes) = 0;
  virtual void download(void* to, const void* from, size_t bytes) = 0;
  virtual void gather(const GatherArgs& args) = 0;
  virtual void gemm(const GemmArgs& args) = 0;
  virtual void encode(const EncodeArgs& args) = 0;
  virtual void combine(const CombineArgs& args) = 0;
  virtual void place_heads(const PlaceHeadsArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void norm(const NormArgs& args) = 0;
  virtual void encode_rows(const EncodeRowsArgs& args) = 0;
  virtual void add(const AddArgs& args) = 0;
  virtual void take_rows(const TakeRowsArgs& args) = 0;
  virtual void sum_rows(const SumRowsArgs& args) = 0;
  virtual void take_encoded(const TakeEncodedArgs& args) = 0;
  virtual void choose_top_k(const TopKArgs& args) = 0;
  virtual void route(const RouteArgs& args) = 0;
  virtual void find_largest(const LargestArgs& args) = 0;
  virtual void draw(const DrawArgs& args) = 0;
  virtual void change_logits(const ChangeLogitsArgs& args) = 0;
  virtual Status synchronize() = 0;
  /// What `work` has this stream do is kept, not done. It may not wait.
  virtual Result<std::unique_ptr<Recording>> record(const std::function<void()>& work) = 0;
  /// Of this stream's own.
  virtual void replay(const Recording& recording) = 0;
};

/// May be used by several threads. Messages of errors, its streams' too, begin with its name
/// ("cuda:0"). Any call may find that the device is lost: kUnavailable.
class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceInfo info() const = 0;
  /// Aligned to 1024 bytes. Error: kResourceExhausted, naming what is free.
  virtual Result<std::byte*> allocate(size_t bytes) = 0;
  virtual void free(std::byte* memory) = 0;
  /// Host memory that the device copies from and to at full speed.
  virtual Result<std::byte*> allocate_pinned(size_t bytes) = 0;
  virtual void free_pinned(std::byte* memory) = 0;
  virtual Result<std::unique_ptr<Stream>> make_stream() = 0;
  /// Takes some milliseconds, and 2 GiB meanwhile.
  virtual Result<DeviceLimits> measure_limits() = 0;
};

}  // namespace pregate::compute::cuda
