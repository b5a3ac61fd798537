// The CPU back end: what is done in which order and by which thread. The arithmetic is in a set of
// kernels that was chosen for the processor.
#pragma once

#include <vector>

#include "compute/cpu/buffer.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/weights.h"
#include "compute/host_backend.h"

namespace pregate::compute::cpu {

class CpuBackend final : public HostBackend {
 public:
  /// Both must outlive the back end.
  CpuBackend(const KernelSet& kernels, ThreadPool& threads);

  std::string name() const override { return kernels_.name; }

  Result<std::unique_ptr<PackedMatrix>> pack(const SourceMatrix& weights,
                                             WeightFormat format) override;
  Result<std::unique_ptr<PackedExpert>> pack_expert(const ExpertSource& weights,
                                                    WeightFormat format) override;

  void encode(Matrix<const float> x, WeightFormat format, std::byte* out) override;
  void linear(const EncodedRows& x, const PackedMatrix& weights, std::span<const float> bias,
              Matrix<float> y) override;
  void experts(const EncodedRows& x, std::span<const ExpertTask> tasks, Matrix<float> out) override;

  void rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon,
                Matrix<float> y) override;

  void sum_rows(const RowSums& sums, Matrix<float> out) override;
  void take_encoded(const EncodedRows& x, std::span<const uint32_t> rows, std::byte* out) override;
  void choose_top_k(Matrix<const float> logits, const TopKOptions& options,
                    const TopK& out) override;
  void draw(Matrix<float> logits, std::span<const Draw> draws, std::span<uint32_t> tokens) override;

  size_t kv_block_bytes(const KvShape& shape) const override;
  Result<std::unique_ptr<KvStorage>> allocate_kv(const KvShape& shape, size_t num_blocks) override;
  void attention(const KvStorage& kv, const AttentionOptions& options,
                 std::span<const SequenceRows> sequences, Matrix<const float> q,
                 Matrix<float> out) override;

 private:
  void rotate(Matrix<float> x, size_t head_dim, Matrix<const float> cos,
              Matrix<const float> sin) override;
  void store_kv(KvStorage& kv, size_t layer, std::span<const SequenceRows> sequences,
                Matrix<const float> keys, Matrix<const float> values) override;

  /// Scratch that one thread uses during a loop.
  struct ThreadScratch {
    Scratch numbers, states, panels;
  };

  /// The rows of x in the form the kernel for such weights reads; valid until the next call.
  std::span<const std::byte* const> prepare(const EncodedRows& x, WeightFormat weights);

  const KernelSet& kernels_;
  ThreadPool& threads_;
  Scratch prepared_, row_pointers_;            // prepare()
  Scratch task_row_pointers_, hidden_;         // experts()
  std::vector<ThreadScratch> thread_scratch_;  // one per thread of the team
};

}  // namespace pregate::compute::cpu
