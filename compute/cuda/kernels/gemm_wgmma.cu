// bf16 products on Hopper. A producer warp brings blocks of weights and rows into a ring of stages
// by bulk copies; each consumer warpgroup multiplies a panel of its own with the rows, which all of
// them share. Weights come first, before the kernel that made the rows has ended.
//
// Large tiles are limited by what the second-level cache delivers, so there two blocks of a cluster
// share the rows too: each brings half of them, to both.
#include "compute/cuda/kernels/epilogue.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/wgmma.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kPanelBlockBytes = panel_block_bytes(WeightFormat::kBf16);
constexpr uint32_t kMaxStages = 16;
/// Barriers, before the stages, which must begin at a multiple of 1024.
constexpr uint32_t kHeaderBytes = 1024;
constexpr uint32_t kSmallRows = 64;

/// How the shared memory of a block is cut.
struct Ring {
  uint32_t num_stages = 0;
  uint32_t stage_bytes = 0;
  uint32_t tile_rows = 0;  ///< Rows of a stage, at most.
};

/// With two consumers the producer is a whole warpgroup, as only such give registers to others: the
/// sums of a tile of 192 rows take 192 registers.
constexpr uint32_t threads_for(int consumers) {
  return consumers * 128 + (consumers > 1 ? 128 : 32);
}

/// The width of product for so many rows.
__host__ __device__ constexpr uint32_t width_for(uint32_t rows) {
  return rows <= 8    ? 8
         : rows <= 16 ? 16
         : rows <= 32 ? 32
         : rows <= 64 ? 64
                      : (rows + 31) / 32 * 32;
}

#if __CUDA_ARCH_FEAT_SM90_ALL

constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

/// The place in the ring and how often it was gone round.
struct Cursor {
  uint32_t stage = 0, round = 0;
  __device__ __forceinline__ void advance(const Ring& ring) {
    if (++stage < ring.num_stages) return;
    stage = 0;
    ++round;
  }
};

template <int kConsumers, int kCluster>
struct Block {
  const GemmArgs& args;
  const Ring& ring;
  const GemmTile tile;
  const uint32_t first_panel, num_active, width;
  const uint32_t shared;  // of the header

  __device__ uint32_t full(uint32_t stage) const { return shared + 8 * stage; }
  __device__ uint32_t empty(uint32_t stage) const { return shared + 8 * (kMaxStages + stage); }
  __device__ uint32_t weights(uint32_t stage) const {
    return shared + kHeaderBytes + stage * ring.stage_bytes;
  }
  __device__ uint32_t rows(uint32_t stage) const {
    return weights(stage) + kConsumers * kPanelBlockBytes;
  }

  __device__ void init_barriers() const {
    for (uint32_t stage = 0; stage < ring.num_stages; ++stage) {
      init_barrier(full(stage), 1);
      init_barrier(empty(stage), kCluster * 4 * num_active);  // by each warp that reads it
    }
    publish_barriers();
  }

  __device__ void fetch_weights(uint32_t block, uint32_t stage) const {
    arrive_expecting(full(stage), num_active * kPanelBlockBytes + width * kBlockBytes);
    for (uint32_t i = 0; i < num_active; ++i) {
      const size_t at = size_t(first_panel + i) * tile.num_blocks + block;
      copy_bulk(weights(stage) + i * kPanelBlockBytes, tile.weights + at * kPanelBlockBytes,
                kPanelBlockBytes, full(stage));
    }
  }
  __device__ void fetch_rows(uint32_t block, uint32_t stage) const {
    const size_t at = size_t(block) * args.rows_stride + tile.first_row;
    const std::byte* from = args.rows + at * kBlockBytes;
    constexpr uint32_t kShareBytes = kBlockBytes / kCluster;  // of a row, on average
    if constexpr (kCluster == 1) {
      copy_bulk(rows(stage), from, width * kShareBytes, full(stage));
    } else {
      const uint32_t skipped = rank_in_cluster() * width * kShareBytes;
      copy_bulk_to((1 << kCluster) - 1, rows(stage) + skipped, from + skipped, width * kShareBytes,
                   full(stage));
    }
  }

  __device__ void produce() const {
    const uint32_t num_ahead = min(ring.num_stages, tile.num_blocks);
    for (uint32_t block = 0; block < num_ahead; ++block) fetch_weights(block, block);
    wait_for_kernels_before();
    for (uint32_t block = 0; block < num_ahead; ++block) fetch_rows(block, block);
    Cursor cursor{0, 1};
    for (uint32_t block = num_ahead; block < tile.num_blocks; ++block) {
      wait_for_phase(empty(cursor.stage), (cursor.round - 1) & 1);
      fetch_weights(block, cursor.stage);
      fetch_rows(block, cursor.stage);
      cursor.advance(ring);
    }
  }

  /// By one thread of each warp.
  __device__ __forceinline__ void release(uint32_t stage) const {
    if (threadIdx.x % 32 != 0) return;
    if constexpr (kCluster == 1) {
      arrive(empty(stage));
    } else {
      for (uint32_t rank = 0; rank < kCluster; ++rank) arrive_at(empty(stage), rank);
    }
  }

  /// The sums of one consumer's panel.
  template <int kCols>
  __device__ __forceinline__ void consume(uint32_t consumer, float (&low)[kCols / 2],
                                          float (&high)[kCols / 2]) const {
    Cursor cursor;
    uint32_t previous = 0;
    for (uint32_t block = 0; block < tile.num_blocks; ++block) {
      wait_for_phase(full(cursor.stage), cursor.round & 1);
      const uint32_t panel = weights(cursor.stage) + consumer * kPanelBlockBytes;
      const uint64_t a_low = matrix_descriptor(panel);
      const uint64_t a_high = matrix_descriptor(panel + 64 * kBlockBytes);
      const uint64_t b = matrix_descriptor(rows(cursor.stage));
      begin_products();
#pragma unroll
      for (uint32_t step = 0; step < 4; ++step) {  // of 16 inputs, 32 bytes
        Wgmma<kCols>::add(low, a_low + 2 * step, b + 2 * step);
        Wgmma<kCols>::add(high, a_high + 2 * step, b + 2 * step);
      }
      commit_products();
      wait_for_products<1>();
      if (block > 0) release(previous);
      previous = cursor.stage;
      cursor.advance(ring);
    }
    wait_for_products<0>();
  }

  template <int kCols>
  __device__ __forceinline__ void multiply(uint32_t consumer, uint8_t* staging) const {
    float low[kCols / 2] = {}, high[kCols / 2] = {};
    consume<kCols>(consumer, low, high);
    const Work work{first_panel + consumer, tile.first_row, tile.num_rows, tile.num_panels};
    const uint32_t warp = threadIdx.x / 32 % 4;
    if (args.output == GemmOutput::kNumbers) {
      store_numbers<kCols>(args, work, warp, low, high);
    } else {
      store_bf16_activations<kCols>(args, work, warp, staging, low, high,
                                    [&] { sync_threads(1 + consumer, 128); });
    }
  }

  /// The narrowest product that takes all rows.
  template <int kMaxCols>
  __device__ __forceinline__ void multiply_rows(uint32_t consumer, uint8_t* staging) const {
    if (width == 8) return multiply<8>(consumer, staging);
    if (width == 16) return multiply<16>(consumer, staging);
    if (width == 32) return multiply<32>(consumer, staging);
    if (width == 64) return multiply<64>(consumer, staging);
    if constexpr (kMaxCols > kSmallRows) {
      if (width == 96) return multiply<96>(consumer, staging);
      if (width == 128) return multiply<128>(consumer, staging);
      if (width == 160) return multiply<160>(consumer, staging);
      multiply<192>(consumer, staging);
    }
  }
};

#endif

template <int kConsumers, int kMaxCols, int kCluster>
__global__ __launch_bounds__(threads_for(kConsumers), kConsumers == 1 ? 2 : 1) void gemm_wgmma(
    const __grid_constant__ GemmArgs args, const __grid_constant__ Ring ring) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t memory[];
  let_next_kernel_start();
  const GemmTile tile = args.tiles[blockIdx.y];
  const uint32_t first_panel = blockIdx.x * kConsumers;
  if (kCluster == 1 && first_panel >= tile.num_panels) return;
  const uint32_t num_active = min(uint32_t(kConsumers), tile.num_panels - first_panel);
  const Block<kConsumers, kCluster> block{
      args, ring, tile, first_panel, num_active, width_for(tile.num_rows), shared_address(memory)};
  if (threadIdx.x == 0) block.init_barriers();
  if constexpr (kCluster == 1) {
    __syncthreads();
  } else {
    arrive_at_cluster();
    wait_for_cluster();
  }
  const uint32_t consumer = threadIdx.x / 128;
  if (consumer == kConsumers) {
    if constexpr (kConsumers > 1) give_up_registers<kProducerRegisters>();
    if (threadIdx.x % 128 == 0) block.produce();
    __syncwarp();
  } else {
    if constexpr (kConsumers > 1) take_registers<kConsumerRegisters>();
    uint8_t* staging = memory + kHeaderBytes + ring.num_stages * ring.stage_bytes +
                       consumer * ring.tile_rows * kBlockBytes;
    if (consumer < num_active) block.template multiply_rows<kMaxCols>(consumer, staging);
  }
  if constexpr (kCluster > 1) {  // nobody leaves while another may still arrive at its barriers
    arrive_at_cluster();
    wait_for_cluster();
  }
#endif
}

/// As many stages as `budget` bytes of shared memory hold.
template <int kConsumers>
Ring cut_memory(const GemmArgs& args, uint32_t budget, uint32_t& bytes) {
  Ring ring;
  ring.tile_rows = width_for(args.max_rows);
  ring.stage_bytes =
      uint32_t(round_up(kConsumers * kPanelBlockBytes + ring.tile_rows * kBlockBytes, 1024));
  const bool stages_rows = args.output == GemmOutput::kActivations;
  const uint32_t fixed =
      kHeaderBytes + (stages_rows ? kConsumers * ring.tile_rows * uint32_t(kBlockBytes) : 0);
  ring.num_stages = min(kMaxStages, (budget - fixed) / ring.stage_bytes);
  bytes = fixed + ring.num_stages * ring.stage_bytes;
  return ring;
}

template <int kConsumers, int kMaxCols, int kCluster>
cudaError_t launch(const GemmArgs& args, uint32_t budget, cudaStream_t stream) {
  uint32_t bytes = 0;
  const Ring ring = cut_memory<kConsumers>(args, budget, bytes);
  const dim3 grid(uint32_t(divide_up(args.max_panels, kConsumers)), args.num_tiles);
  return launch_kernel<gemm_wgmma<kConsumers, kMaxCols, kCluster>>(
      {.grid = grid,
       .num_threads = threads_for(kConsumers),
       .shared_bytes = bytes,
       .stream = stream,
       .overlap = true,
       .cluster = kCluster},
      args, ring);
}

}  // namespace

cudaError_t launch_gemm_wgmma(const GemmArgs& args, cudaStream_t stream) {
  // Two small blocks on a multiprocessor, of which one computes while the other begins or ends; or
  // one large one, whose rows serve two panels. 227 KiB is what a multiprocessor has.
  constexpr uint32_t kSmallBudget = 112 * 1024, kLargeBudget = 226 * 1024;
  if (args.max_rows <= kSmallRows) return launch<1, kSmallRows, 1>(args, kSmallBudget, stream);
  if (args.uniform && args.max_panels % 4 == 0) {
    return launch<2, kMaxTileRows, 2>(args, kLargeBudget, stream);
  }
  return launch<2, kMaxTileRows, 1>(args, kLargeBudget, stream);
}

}  // namespace pregate::compute::cuda
