// The back end that is written to be read: one thread, one loop per index, no tricks. Every other
// back end is held to it, so it stays this simple for ever.
#pragma once

#include <memory>
#include <vector>

#include "compute/host_backend.h"

namespace pregate::compute::reference {

/// A weight is kept row by row in the format in which rows are encoded, so that a product is the
/// dot product of two encoded rows; in kF8, as f8.h says.
class DenseMatrix final : public PackedMatrix {
 public:
  static Result<std::unique_ptr<DenseMatrix>> pack(const SourceMatrix& source, WeightFormat format);

  WeightFormat format() const override { return format_; }
  size_t out_features() const override { return out_features_; }
  size_t in_features() const override { return in_features_; }
  size_t bytes() const override { return rows_.size(); }
  const std::byte* row(size_t out) const { return rows_.data() + out * row_bytes_; }

 private:
  WeightFormat format_ = WeightFormat::kF32;
  size_t out_features_ = 0;
  size_t in_features_ = 0;
  size_t row_bytes_ = 0;
  std::vector<std::byte> rows_;
};

struct Expert final : public PackedExpert {
  WeightFormat format() const override { return gate->format(); }
  size_t hidden_size() const override { return gate->in_features(); }
  size_t intermediate_size() const override { return gate->out_features(); }
  size_t bytes() const override { return gate->bytes() + up->bytes() + down->bytes(); }

  std::unique_ptr<DenseMatrix> gate, up, down;
};

/// Rounds `cols` numbers to `format`; out has encoded_row_bytes(format, cols) bytes.
void encode_row(std::span<const float> x, WeightFormat format, std::byte* out);
/// The product sum of an encoded row of `cols` numbers and the weights of an output.
float dot(const std::byte* x, const std::byte* weights, WeightFormat format, size_t cols);

class ReferenceBackend final : public HostBackend {
 public:
  std::string name() const override { return "reference"; }

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
};

}  // namespace pregate::compute::reference
