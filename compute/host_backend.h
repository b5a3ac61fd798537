// What back ends have in common whose row memory is the host's.
#pragma once

#include "compute/backend.h"

namespace pregate::compute {

class HostBackend : public Backend {
 public:
  Result<std::unique_ptr<RowMemory>> allocate_rows(size_t bytes) override;
  std::unique_ptr<RowMemory> allocate_host_rows(size_t bytes) override;
  bool shares_row_memory() const override { return true; }
  void write(void* rows, const void* from, size_t bytes) override;
  void read(void* to, const void* rows, size_t bytes) override;

  void mlp(const EncodedRows& x, const PackedExpert& expert, Matrix<float> out) override;
  void add(Matrix<const float> x, Matrix<float> y) override;
  void add_gated(Matrix<const float> x, Matrix<const float> gates, Matrix<float> y) override;
  void take_rows(Matrix<const float> x, std::span<const uint32_t> rows, Matrix<float> y) override;
  void sum_rows(const RowSums& sums, Matrix<float> out) override;
  void take_encoded(const EncodedRows& x, std::span<const uint32_t> rows, std::byte* out) override;
  void choose_top_k(Matrix<const float> logits, const TopKOptions& options,
                    const TopK& out) override;
  void draw(Matrix<float> logits, std::span<const Draw> draws, std::span<uint32_t> tokens) override;
  void place_heads(KvStorage& kv, const HeadOptions& options,
                   std::span<const SequenceRows> sequences, Matrix<float> q, Matrix<float> k,
                   Matrix<float> v) override;

 protected:
  /// As HeadOptions says, in place.
  virtual void rotate(Matrix<float> x, size_t head_dim, Matrix<const float> cos,
                      Matrix<const float> sin) = 0;
  /// As they are.
  virtual void store_kv(KvStorage& kv, size_t layer, std::span<const SequenceRows> sequences,
                        Matrix<const float> keys, Matrix<const float> values) = 0;
};

}  // namespace pregate::compute
