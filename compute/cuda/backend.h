// The back end on a CUDA device. Weights and the KV cache live there, and what reads them is
// computed there: experts(), linear() and attention(). Rows come from and go back to the host's
// memory, and what needs neither (norms, rotary, encoding) is computed on the host, as are products
// with matrices in f32, which lie there.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "compute/backend.h"
#include "compute/cuda/arena.h"
#include "compute/cuda/device.h"
#include "compute/cuda/plan.h"
#include "compute/cuda/scratch.h"
#include "compute/cuda/weights.h"

namespace pregate::compute::cuda {

class CudaKv;

/// "cuda:<index>" on `device`. `threads` must outlive it. Back ends of one device share its memory
/// for weights, and one's weights serve the others.
///
/// A device that is lost, or that has no room for a slice of a step's rows, ends the process with a
/// message: what computes has no way to fail, and a cluster recovers from a worker that is gone.
Result<std::unique_ptr<Backend>> make_cuda_backend(std::shared_ptr<Device> device, size_t index,
                                                   ThreadPool& threads);

/// With the error as its last words.
[[noreturn]] void end_process(const Error& error);

class CudaBackend final : public Backend {
 public:
  /// `row_bytes`: of device memory for the rows of a call, about; larger calls are computed in
  /// slices. 0: half of what the arena leaves.
  static Result<std::unique_ptr<CudaBackend>> create(std::shared_ptr<Device> device,
                                                     std::string name, ThreadPool& threads,
                                                     size_t row_bytes = 0);

  std::string name() const override { return name_; }
  std::optional<size_t> free_bytes() const override { return arena_->free_bytes(); }

  Result<std::unique_ptr<PackedMatrix>> pack(const SourceMatrix& weights,
                                             WeightFormat format) override;
  Result<std::unique_ptr<PackedExpert>> pack_expert(const ExpertSource& weights,
                                                    WeightFormat format) override;

  void linear(const EncodedRows& x, const PackedMatrix& weights, std::span<const float> bias,
              Matrix<float> y) override;
  void experts(const EncodedRows& x, std::span<const ExpertTask> tasks, Matrix<float> out) override;

  void encode(Matrix<const float> x, WeightFormat format, std::byte* out) override {
    host_->encode(x, format, out);
  }
  void rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon,
                Matrix<float> y) override {
    host_->rms_norm(x, weight, epsilon, y);
  }
  void rotate(Matrix<float> x, size_t head_dim, Matrix<const float> cos,
              Matrix<const float> sin) override {
    host_->rotate(x, head_dim, cos, sin);
  }

  size_t kv_block_bytes(const KvShape& shape) const override;
  /// Of the memory for weights. Used by this back end only, whose stream keeps the order of what is
  /// stored and read.
  Result<std::unique_ptr<KvStorage>> allocate_kv(const KvShape& shape, size_t num_blocks) override;
  /// Returns before it is done.
  void store_kv(KvStorage& kv, size_t layer, std::span<const SequenceRows> sequences,
                Matrix<const float> keys, Matrix<const float> values) override;
  void attention(const KvStorage& kv, const AttentionOptions& options,
                 std::span<const SequenceRows> sequences, Matrix<const float> q,
                 Matrix<float> out) override;

 private:
  CudaBackend(std::shared_ptr<Device> device, std::string name, ThreadPool& threads);

  /// Device memory with these bytes, which are `packed_`'s.
  Result<Arena::Block> place(const std::byte* packed, size_t bytes);
  Status try_linear(const EncodedRows& x, const CudaMatrix& weights, std::span<const float> bias,
                    Matrix<float> y);
  Status try_experts(const EncodedRows& x, std::span<const ExpertTask> tasks, Matrix<float> out);
  Status try_plan(const EncodedRows& x, const ExpertsPlan& plan, Matrix<float> out);
  /// The first operand of a product: rows of x, of which `args` says where they are.
  Status lay_out(const EncodedRows& x, GatherArgs args, GemmArgs& product);
  /// silu(gate) * up, as the first operand of `product`.
  Status activate(const ExpertsPlan& plan, GemmArgs gate_up, GemmArgs& product);
  Status try_store_kv(const CudaKv& kv, size_t layer, std::span<const SequenceRows> sequences,
                      const std::array<Matrix<const float>, 2>& keys_and_values);
  Status try_attention(const CudaKv& kv, const AttentionOptions& options,
                       std::span<const SequenceRows> sequences, Matrix<const float> q,
                       Matrix<float> out);
  /// Waits for all that was begun, as do those that receive something.
  Status synchronize();
  Status receive(const std::byte* numbers, Matrix<float> out);
  /// The sequences' rows of out, one after the other.
  Status receive_rows(const std::byte* numbers, std::span<const SequenceRows> sequences,
                      Matrix<float> out);

  const std::string name_;
  const std::shared_ptr<Device> device_;
  ThreadPool& threads_;
  const cpu::KernelSet* kernels_ = nullptr;
  std::unique_ptr<Backend> host_;
  std::shared_ptr<Arena> arena_;
  std::unique_ptr<Stream> stream_;
  size_t row_bytes_ = 0;
  PinnedScratch packed_, sent_, sent_kv_, received_;
  DeviceScratch tables_, stored_, rows_, numbers_, activations_, products_, out_;
  bool is_storing_ = false;  // `sent_kv_` and `stored_` are in use
};

}  // namespace pregate::compute::cuda
