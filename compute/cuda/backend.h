// The back end on a CUDA device. Weights, the KV cache and row memory live there, and what reads
// them is computed there. Rows that lie in the host's memory come and go with each operation; what
// needs no weights (norms, rotary, encoding) is computed where the rows are.
#pragma once

#include <initializer_list>
#include <memory>
#include <optional>

#include "compute/backend.h"
#include "compute/cuda/arena.h"
#include "compute/cuda/device.h"
#include "compute/cuda/outbox.h"
#include "compute/cuda/plan.h"
#include "compute/cuda/recordings.h"
#include "compute/cuda/row_space.h"
#include "compute/cuda/scratch.h"
#include "compute/cuda/weights.h"

namespace pregate::compute::cuda {

struct AttentionHeads;
struct CudaExpertGroup;
struct RowRange;
class CudaKv;
class KeptPlan;
class KeptSlots;
class Parcel;
struct SentPlan;

/// "cuda:<index>" on `device`. `threads` must outlive it. Back ends of one device share its memory
/// for weights, and one's weights serve the others.
///
/// A device that is lost, or that has no room for a slice of a step's rows, ends the process with a
/// message: what computes has no way to fail, and a cluster recovers from a worker that is gone.
Result<std::unique_ptr<Backend>> make_cuda_backend(std::shared_ptr<Device> device, size_t index,
                                                   ThreadPool& threads);

/// With the error as its last words.
[[noreturn]] void end_process(const Error& error);
/// Ends the process unless it went well.
void require(const Status& status);

/// Device memory for one row through one expert: x, activations and the product.
size_t product_bytes(const CudaExpert& expert);

class CudaBackend final : public Backend, public Unattended {
 public:
  ~CudaBackend() override;
  /// `row_bytes`: of device memory for the rows of a call, about; larger calls are computed in
  /// slices. 0: half of what the arena leaves.
  static Result<std::unique_ptr<CudaBackend>> create(std::shared_ptr<Device> device,
                                                     std::string name, ThreadPool& threads,
                                                     size_t row_bytes = 0);

  std::string name() const override { return name_; }
  std::optional<size_t> free_bytes() const override { return arena_->free_bytes(); }

  Result<std::unique_ptr<RowMemory>> allocate_rows(size_t bytes) override {
    return row_space_->allocate(bytes);
  }
  std::unique_ptr<RowMemory> allocate_host_rows(size_t bytes) override;
  bool shares_row_memory() const override { return false; }
  std::shared_ptr<DeviceMemory> shared_rows() override;
  void wait() override { require(synchronize()); }
  void write(void* rows, const void* from, size_t bytes) override;
  void read(void* to, const void* rows, size_t bytes) override;

  Result<std::unique_ptr<PackedMatrix>> pack(const SourceMatrix& weights,
                                             WeightFormat format) override;
  Result<std::unique_ptr<PackedExpert>> pack_expert(const ExpertSource& weights,
                                                    WeightFormat format) override;

  void linear(const EncodedRows& x, const PackedMatrix& weights, std::span<const float> bias,
              Matrix<float> y) override;
  void linear_all(const EncodedRows& x, std::span<const LinearMap> maps) override;
  void experts(const EncodedRows& x, std::span<const ExpertTask> tasks, Matrix<float> out) override;
  void mlp(const EncodedRows& x, const PackedExpert& expert, Matrix<float> out) override;

  void encode(Matrix<const float> x, WeightFormat format, std::byte* out) override;
  void rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon,
                Matrix<float> y) override;
  void norm_encode(Matrix<float> x, Matrix<const float> addend, std::span<const float> weight,
                   float epsilon, Matrix<float> y, WeightFormat format, std::byte* out) override;
  void add(Matrix<const float> x, Matrix<float> y) override;
  void add_gated(Matrix<const float> x, Matrix<const float> gates, Matrix<float> y) override;
  void take_rows(Matrix<const float> x, std::span<const uint32_t> rows, Matrix<float> y) override;
  void sum_rows(const RowSums& sums, Matrix<float> out) override;
  void take_encoded(const EncodedRows& x, std::span<const uint32_t> rows, std::byte* out) override;
  void choose_top_k(Matrix<const float> logits, const TopKOptions& options,
                    const TopK& out) override;
  void draw(Matrix<float> logits, std::span<const Draw> draws, std::span<uint32_t> tokens) override;

  size_t kv_block_bytes(const KvShape& shape) const override;
  /// Of the memory for weights. Used by this back end only, whose stream keeps the order of what is
  /// stored and read.
  Result<std::unique_ptr<KvStorage>> allocate_kv(const KvShape& shape, size_t num_blocks) override;
  void place_heads(KvStorage& kv, const HeadOptions& options,
                   std::span<const SequenceRows> sequences, Matrix<float> q, Matrix<float> k,
                   Matrix<float> v) override;
  void attention(const KvStorage& kv, const AttentionOptions& options,
                 std::span<const SequenceRows> sequences, Matrix<const float> q,
                 Matrix<float> out) override;

  Unattended* unattended() override { return this; }
  size_t max_experts() const override;
  Result<std::unique_ptr<ExpertGroup>> group(std::span<const PackedExpert* const> experts) override;
  size_t max_rows(const ExpertGroup& group, size_t k) const override;
  void routed_experts(const EncodedRows& x, const ExpertGroup& group, const TopK& chosen,
                      Matrix<float> out) override;
  void begin_read(void* to, const void* rows, size_t bytes) override;
  void repeat(std::span<const uint64_t> key, const KvStorage& kv,
              std::span<const SequenceRows> sequences, const std::function<void()>& work) override;

 private:
  /// Where an operation leaves its rows: in row memory, or on the way to host memory.
  struct Target {
    float* numbers = nullptr;  ///< Device address.
    uint32_t stride = 0;
    bool is_final = false;

    GemmTarget of_products(size_t cols, const float* bias) const {
      return {reinterpret_cast<std::byte*>(numbers), stride, uint32_t(cols), bias};
    }
  };
  /// Rows of sequences, one after the other, that a parcel brings.
  struct Brought {
    size_t piece = 0;
    uint32_t stride = 0;
  };

  CudaBackend(std::shared_ptr<Device> device, std::string name, ThreadPool& threads,
              std::unique_ptr<Stream> stream, std::shared_ptr<CudaSharedRows> shared_rows);
  bool is_here(const void* address) const { return row_space_->holds(address); }
  /// Whether all of these are in row memory and not in host memory. Null, of what is empty, is
  /// where the others are.
  bool are_here(std::initializer_list<const void*> addresses) const;

  /// Device memory with these bytes, which are `packed_`'s.
  Result<Arena::Block> place(const std::byte* packed, size_t bytes);
  Status try_linear(const EncodedRows& x, std::span<const LinearMap> maps, const RowRange& range);
  Status try_experts(const EncodedRows& x, std::span<const ExpertTask> tasks, Matrix<float> out);
  Status try_plan(const EncodedRows& x, SentPlan plan, Matrix<float> out);
  Status try_mlp(const EncodedRows& x, const CudaExpert& expert, Matrix<float> out);
  Status try_routed_experts(const EncodedRows& x, const CudaExpertGroup& group, const TopK& chosen,
                            Matrix<float> out);
  /// Begins to plan where rows go, on the device.
  Result<SentPlan> route(const CudaExpertGroup& group, size_t num_rows, const TopK& chosen);
  Status try_repeat(const Recordings::Key& key, const std::function<void()>& work);
  /// All that a recording refers to. Sends the tables of the sequences.
  Result<Recordings::Key> recording_key(std::span<const uint64_t> key, size_t num_kv_blocks,
                                        std::span<const SequenceRows> sequences);
  /// The first operand of a product: rows of x, of which `args` says where they are.
  Status lay_out(const EncodedRows& x, GatherArgs args, GemmArgs& product);
  /// The same of all rows, in order, which are at `encoded`: for products with maps.
  Result<GemmArgs> lay_out_all(const EncodedRows& x, const std::byte* encoded);
  /// silu(gate) * up, as the first operand of `product`, which says of how many k blocks.
  Status activate(GemmArgs gate_up, GemmArgs& product);
  /// In row memory; `gates` null: without.
  void begin_add(Matrix<const float> x, const float* gates, Matrix<float> y);
  Status try_take_rows(Matrix<const float> x, std::span<const uint32_t> rows, Matrix<float> y);
  Status try_sum_rows(const RowSums& sums, Matrix<float> out);
  Status try_take_encoded(const EncodedRows& x, std::span<const uint32_t> rows, std::byte* out);
  Status try_choose_top_k(Matrix<const float> logits, const TopKOptions& options, const TopK& out);
  Status try_draw(Matrix<float> logits, std::span<const Draw> draws, std::span<uint32_t> tokens);
  Status try_find_largest(Matrix<const float> numbers, std::span<uint32_t> columns);
  Status try_write(std::byte* rows, const std::byte* from, size_t bytes);
  Status try_place_heads(const CudaKv& kv, const HeadOptions& options,
                         std::span<const SequenceRows> sequences, Matrix<float> q,
                         Matrix<const float> k, Matrix<const float> v);
  Status try_attention(const CudaKv& kv, const AttentionOptions& options,
                       std::span<const SequenceRows> sequences, Matrix<const float> q,
                       Matrix<float> out);
  KeptSlots& slots_for(const CudaKv& kv);
  KeptPlan& plan_for(const CudaKv& kv, const AttentionHeads& heads);
  Brought bring_rows(Parcel& parcel, std::span<const SequenceRows> sequences,
                     Matrix<const float> numbers) const;
  Result<Target> target_of(Matrix<float> out);
  Result<Target> target_of(std::span<const SequenceRows> sequences, Matrix<float> out);
  /// Brings rows to where they should be; waits if that is host memory.
  Status deliver(const Target& target, Matrix<float> out);
  Status deliver(const Target& target, std::span<const SequenceRows> sequences, Matrix<float> out);
  void begin_choose(Matrix<const float> logits, const TopKOptions& options, const TopK& out);
  /// Waits for all that was begun.
  Status synchronize();
  /// From device memory to host memory. Waits.
  Status fetch(void* to, const void* from, size_t bytes);
  /// To pinned memory of its own, until the next time. Waits.
  Result<const std::byte*> receive(const void* from, size_t bytes);

  const std::string name_;
  const std::shared_ptr<Device> device_;
  ThreadPool& threads_;
  const cpu::KernelSet* kernels_ = nullptr;
  std::unique_ptr<Backend> host_;
  std::shared_ptr<Arena> arena_;
  const std::unique_ptr<Stream> stream_;
  const std::shared_ptr<RowSpace> row_space_;
  size_t row_bytes_ = 0;
  Outbox outbox_;
  PinnedScratch packed_, received_;
  DeviceScratch rows_, numbers_, activations_, products_, out_, routes_;
  // For each KV cache, and each kind of attention over it.
  std::vector<std::unique_ptr<KeptSlots>> slots_;
  std::vector<std::unique_ptr<KeptPlan>> plans_;
  Recordings recordings_;
  uint64_t num_waits_ = 0;
  bool is_recording_ = false;
};

}  // namespace pregate::compute::cuda
