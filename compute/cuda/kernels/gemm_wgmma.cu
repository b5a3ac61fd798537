// bf16 products on Hopper. A producer warp brings blocks of weights and rows into a ring of stages
// by bulk copies; each consumer warpgroup multiplies a panel of its own with the rows, which all of
// them share. Weights come first, before the kernel that made the rows has ended.
//
// Large tiles are limited by what the second-level cache delivers: 37 bytes a cycle for a whole
// multiprocessor at full speed. Hence tiles as large as the registers hold.
#include "compute/cuda/kernels/descriptor.cuh"
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
constexpr uint32_t kSmallRows = 96;

/// How the shared memory of a block is cut.
struct Ring {
  uint32_t num_stages = 0;
  uint32_t stage_bytes = 0;
};

/// With two consumers the producer is a whole warpgroup, as only such give registers to others: the
/// sums of a tile of 192 rows take 192 registers.
constexpr uint32_t threads_for(int consumers) {
  return consumers * 128 + (consumers > 1 ? 128 : 32);
}

/// The narrowest product for so many rows: 8, 16, 32, 48, ...
constexpr uint32_t width_for(uint32_t rows) {
  return rows <= 8 ? 8 : rows <= 16 ? 16 : (rows + 15) / 16 * 16;
}

#if __CUDA_ARCH_FEAT_SM90_ALL

constexpr uint32_t wider(uint32_t width) { return width == 8 ? 16 : width + 16; }

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

template <int kConsumers>
struct Block {
  const GemmArgs& args;
  const Ring& ring;
  const GemmTile tile;
  const uint32_t first_panel, num_active, width;
  const uint32_t shared;  // of the header

  __device__ uint32_t full(uint32_t stage) const { return shared + 8 * stage; }
  __device__ uint32_t empty(uint32_t stage) const { return full(kMaxStages + stage); }
  __device__ uint32_t weights(uint32_t stage) const {
    return shared + kHeaderBytes + stage * ring.stage_bytes;
  }
  __device__ uint32_t rows(uint32_t stage) const {
    return weights(stage) + kConsumers * kPanelBlockBytes;
  }

  __device__ void init_barriers() const {
    for (uint32_t stage = 0; stage < ring.num_stages; ++stage) {
      init_barrier(full(stage), 1);
      init_barrier(empty(stage), num_active * 4);  // by each warp that reads it
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
    copy_bulk(rows(stage), args.rows + at * kBlockBytes, width * kBlockBytes, full(stage));
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

  __device__ __forceinline__ void release(uint32_t stage) const {
    if (threadIdx.x % 32 == 0) arrive(empty(stage));
  }

  /// The sums of one consumer's panel.
  template <int kCols>
  __device__ __forceinline__ void consume(uint32_t consumer, float (&low)[kCols / 2],
                                          float (&high)[kCols / 2]) const {
    Cursor cursor;
    uint32_t previous = 0;
#pragma unroll 1
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
  __device__ __forceinline__ void multiply(uint32_t consumer) const {
    float low[kCols / 2] = {}, high[kCols / 2] = {};
    consume<kCols>(consumer, low, high);
    const Work work{first_panel + consumer, tile.first_row, tile.num_rows};
    const uint32_t warp = threadIdx.x / 32 % 4;
    const GemmTarget target = target_of(args, blockIdx.y);
    if (args.output == GemmOutput::kNumbers) {
      store_numbers<kCols>(target, work, warp, low, high);
    } else {
      store_bf16_activations<kCols>(target, work, warp, low, high);
    }
  }

  /// By the narrowest product that takes all rows.
  template <int kCols, int kMaxCols>
  __device__ __forceinline__ void multiply_rows(uint32_t consumer) const {
    if constexpr (kCols < kMaxCols) {
      if (width > kCols) return multiply_rows<wider(kCols), kMaxCols>(consumer);
    }
    multiply<kCols>(consumer);
  }
};

#endif

template <int kConsumers, int kMaxCols>
__global__ __launch_bounds__(threads_for(kConsumers), kConsumers == 1 ? 2 : 1) void gemm_wgmma(
    const __grid_constant__ GemmArgs args, const __grid_constant__ Ring ring) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  uint8_t* const memory = dynamic_shared_memory();
  let_next_kernel_start();
  const GemmTile tile = tile_of(args, blockIdx.y);
  const uint32_t first_panel = blockIdx.x * kConsumers;
  if (first_panel >= tile.num_panels) return;
  const Block<kConsumers> block{args,
                                ring,
                                tile,
                                first_panel,
                                min(uint32_t(kConsumers), tile.num_panels - first_panel),
                                width_for(tile.num_rows),
                                shared_address(memory)};
  if (threadIdx.x == 0) block.init_barriers();
  __syncthreads();
  const uint32_t consumer = threadIdx.x / 128;
  if (consumer == kConsumers) {
    if constexpr (kConsumers > 1) give_up_registers<kProducerRegisters>();
    if (threadIdx.x % 128 == 0) block.produce();
  } else {
    if constexpr (kConsumers > 1) take_registers<kConsumerRegisters>();
    if (consumer < block.num_active) block.template multiply_rows<8, kMaxCols>(consumer);
  }
#endif
}

/// As many stages as `budget` bytes of shared memory hold.
template <int kConsumers>
Ring cut_memory(const GemmArgs& args, uint32_t budget) {
  Ring ring;
  ring.stage_bytes = uint32_t(
      round_up(kConsumers * kPanelBlockBytes + width_for(args.max_rows) * kBlockBytes, 1024));
  ring.num_stages = min(kMaxStages, (budget - kHeaderBytes) / ring.stage_bytes);
  return ring;
}

template <int kConsumers, int kMaxCols>
cudaError_t launch(const GemmArgs& args, uint32_t budget, cudaStream_t stream) {
  const Ring ring = cut_memory<kConsumers>(args, budget);
  const dim3 grid(uint32_t(divide_up(args.max_panels, kConsumers)), count_tiles(args));
  const uint32_t bytes = kHeaderBytes + ring.num_stages * ring.stage_bytes;
  return launch_kernel<gemm_wgmma<kConsumers, kMaxCols>>(
      {grid, threads_for(kConsumers), bytes, stream, true}, args, ring);
}

}  // namespace

cudaError_t launch_gemm_wgmma(const GemmArgs& args, cudaStream_t stream) {
  // Two small blocks on a multiprocessor, of which one computes while the other begins or ends; or
  // one large one, whose rows serve two panels. 227 KiB is what a multiprocessor has.
  if (args.max_rows <= kSmallRows) return launch<1, kSmallRows>(args, 112 * 1024, stream);
  return launch<2, kMaxTileRows>(args, 226 * 1024, stream);
}

}  // namespace pregate::compute::cuda
