// The arithmetic of a model on one device. reference/ is written to be read; every other back end
// is tested against it (tests/conformance/compute), with a tolerance per format.
//
// One row's result never depends on the other rows of a call, nor on the number of threads: a
// request gets the same bits alone or in a batch, in one prefill chunk or in many.
//
// Rows and vectors that an operation reads or writes lie in host memory or in the back end's own
// row memory (row_memory.h), where they can stay from one operation to the next. Operations are
// done in order, but one that writes to row memory may return before it is done; what it was given
// in host memory is free to change then. Host memory that an operation wrote to holds its results.
//
// Letters in the comments: n rows (tokens), h hidden size, f intermediate size, d head size.
// A back end is used by one thread at a time; it spreads the work over its own team.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/device_memory.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "compute/draw.h"
#include "compute/heads.h"
#include "compute/packed.h"
#include "compute/row_memory.h"
#include "compute/row_sums.h"
#include "compute/top_k.h"
#include "compute/types.h"
#include "compute/unattended.h"

namespace pregate::compute {

/// Tokens per block of the paged KV cache.
inline constexpr size_t kKvBlockTokens = 16;

struct KvShape {
  size_t num_layers = 0;
  size_t num_kv_heads = 0;
  size_t head_dim = 0;
  DType dtype = DType::kBf16;  ///< kF32 or kBf16.
};

/// Keys and values of `num_blocks` blocks of kKvBlockTokens tokens, for all layers.
class KvStorage {
 public:
  virtual ~KvStorage() = default;
  virtual const KvShape& shape() const = 0;
  virtual size_t num_blocks() const = 0;
};

/// Consecutive rows of a step that belong to one sequence. The token at position p has its keys and
/// values in block blocks[p / kKvBlockTokens].
struct SequenceRows {
  size_t first_row = 0;
  size_t num_rows = 0;
  size_t first_position = 0;  ///< Of the first row.
  std::span<const uint32_t> blocks;
};

struct AttentionOptions {
  size_t layer = 0;
  size_t num_heads = 0;  ///< Query heads; a multiple of the KV heads.
  float scale = 1.0f;
  size_t window = 0;  ///< Position p sees (p - window, p]; 0: all up to p.
};

class Backend {
 public:
  virtual ~Backend() = default;
  /// For logs and metrics, for example "cpu/avx2".
  virtual std::string name() const = 0;
  /// Free bytes of memory of its own for weights and the KV cache. None: they go to host memory.
  virtual std::optional<size_t> free_bytes() const { return std::nullopt; }

  // Row memory. Error: kResourceExhausted.
  virtual Result<std::unique_ptr<RowMemory>> allocate_rows(size_t bytes) = 0;
  /// Host memory that rows come to fastest; any, where there is no more of it.
  virtual std::unique_ptr<RowMemory> allocate_host_rows(size_t bytes) = 0;
  /// Whether row memory is the host's, which may read and write it like any other.
  virtual bool shares_row_memory() const = 0;
  /// From host memory to row memory, and back, which waits. Nothing where addresses are the same.
  virtual void write(void* rows, const void* from, size_t bytes) = 0;
  virtual void read(void* to, const void* rows, size_t bytes) = 0;
  /// Row memory that others use too: for rows that come from other devices, or go there. But what
  /// is repeated (Unattended::repeat()) may not refer to it. It may outlive the back end. Null: row
  /// memory is the host's, as any is then.
  virtual std::shared_ptr<DeviceMemory> shared_rows() { return nullptr; }
  /// Until all that was begun with row memory is done.
  virtual void wait() {}

  // Weights. The source may be unmapped afterwards. Errors: kDataLoss for a NaN or infinite weight
  // (naming row and column), kInvalidArgument for shapes that do not fit together.
  virtual Result<std::unique_ptr<PackedMatrix>> pack(const SourceMatrix& weights,
                                                     WeightFormat format) = 0;
  virtual Result<std::unique_ptr<PackedExpert>> pack_expert(const ExpertSource& weights,
                                                            WeightFormat format) = 0;

  /// Writes x.rows * encoded_row_bytes(format, x.cols) bytes. The same bits on every back end. x
  /// and out lie in the same kind of memory, as do all rows and vectors of the operations from
  /// rms_norm() to take_encoded().
  virtual void encode(Matrix<const float> x, WeightFormat format, std::byte* out) = 0;
  /// y [n, out] = x [n, in] W^T (+ bias [out], if not empty). x.format and weights.format()
  /// have the same arithmetic.
  virtual void linear(const EncodedRows& x, const PackedMatrix& weights,
                      std::span<const float> bias, Matrix<float> y) = 0;
  /// The same for several matrices.
  virtual void linear_all(const EncodedRows& x, std::span<const LinearMap> maps) {
    for (const LinearMap& map : maps) linear(x, *map.weights, map.bias, map.y);
  }
  /// Sets `out` [*, h] to zero, then applies the tasks, whose experts are of one format. x [n, h].
  virtual void experts(const EncodedRows& x, std::span<const ExpertTask> tasks,
                       Matrix<float> out) = 0;

  /// out [n, h] = expert(x [n, h]): as experts() with one task, of all rows with gates of one.
  virtual void mlp(const EncodedRows& x, const PackedExpert& expert, Matrix<float> out) = 0;

  /// y = x / rms(x) * weight over groups of weight.size() columns (x.cols is a multiple of it:
  /// one group is the usual norm, one per head is QK-norm). x and y may be the same.
  virtual void rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon,
                        Matrix<float> y) = 0;
  /// x += addend, if that has rows; y = x normed as one group, and `out` is y encoded. x and y may
  /// be the same.
  virtual void norm_encode(Matrix<float> x, Matrix<const float> addend,
                           std::span<const float> weight, float epsilon, Matrix<float> y,
                           WeightFormat format, std::byte* out) {
    if (addend.rows > 0) add(addend, x);
    rms_norm(x, weight, epsilon, y);
    encode(y, format, out);
  }
  /// y += x.
  virtual void add(Matrix<const float> x, Matrix<float> y) = 0;
  /// y += sigmoid(gates [n, 1]) * x.
  virtual void add_gated(Matrix<const float> x, Matrix<const float> gates, Matrix<float> y) = 0;
  /// y [rows.size(), h]: row i becomes row rows[i] of x.
  virtual void take_rows(Matrix<const float> x, std::span<const uint32_t> rows,
                         Matrix<float> y) = 0;
  /// out row i = its addends added up in their order, in f32; zero if there are none, and a single
  /// one as it is. The same bits on every back end, but for those of a NaN that a sum gives. `out`
  /// overlaps with no addend.
  virtual void sum_rows(const RowSums& sums, Matrix<float> out) = 0;
  /// out [rows.size() * encoded_row_bytes(x.format, x.cols)]: row i becomes row rows[i] of x, with
  /// which `out` does not overlap. Aligned to 4 bytes, as x is.
  virtual void take_encoded(const EncodedRows& x, std::span<const uint32_t> rows,
                            std::byte* out) = 0;

  /// See TopK, which lies in host memory; or in row memory, as logits then do.
  virtual void choose_top_k(Matrix<const float> logits, const TopKOptions& options,
                            const TopK& out) = 0;
  /// draws [n], tokens [n], in host memory: of each row what compute::draw_in_place() says and
  /// leaves.
  virtual void draw(Matrix<float> logits, std::span<const Draw> draws,
                    std::span<uint32_t> tokens) = 0;

  virtual size_t kv_block_bytes(const KvShape& shape) const = 0;
  virtual Result<std::unique_ptr<KvStorage>> allocate_kv(const KvShape& shape,
                                                         size_t num_blocks) = 0;
  /// Makes of q [n, heads * d] the queries of the rows of each sequence, and stores the keys and
  /// values that it makes of k and v [n, kv_heads * d] at their positions. What is left in k and v,
  /// and in rows of no sequence, means nothing. Rows and vectors lie in the same kind of memory.
  virtual void place_heads(KvStorage& kv, const HeadOptions& options,
                           std::span<const SequenceRows> sequences, Matrix<float> q,
                           Matrix<float> k, Matrix<float> v) = 0;
  /// Causal attention of q [n, heads * d] over what is stored up to each row's position (itself
  /// included). out [n, heads * d].
  virtual void attention(const KvStorage& kv, const AttentionOptions& options,
                         std::span<const SequenceRows> sequences, Matrix<const float> q,
                         Matrix<float> out) = 0;

  /// Null: it has nothing to gain from it.
  virtual Unattended* unattended() { return nullptr; }
};

/// name: "cpu" (the fastest kernels this processor runs), "cpu/avx512", "cpu/avx2", "cpu/generic",
/// "cuda:N" (a CUDA device by its number), "cuda" (the first) or "reference". `threads` must
/// outlive the back end. Error: kInvalidArgument with the known names, kUnimplemented if this
/// processor or build cannot run it, kNotFound if there is no such device, kUnavailable if it
/// refuses.
Result<std::unique_ptr<Backend>> make_backend(const std::string& name, ThreadPool& threads);

/// What the memory of weights in `format` amounts to on the back end of that name: all but the
/// reference keep kQ4 in its 4 bits.
WeightFormat kept_format(const std::string& name, WeightFormat format);

/// The names make_backend() accepts on this machine, without the aliases "cpu" and "cuda".
std::vector<std::string> available_backends();

}  // namespace pregate::compute
