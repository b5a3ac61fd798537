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
constexpr uint32_t kSmallRows = 96;

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

/// What the blocks, or the clusters, take in turn: a tile of rows and some panels.
struct Items {
  uint32_t num_items = 0;
  uint32_t per_tile = 0;
};

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
  const Items& items;
  uint8_t* memory;  // shared: header, stages, staging

  struct Item {
    GemmTile tile;
    uint32_t first_panel, num_active, width;
  };

  __device__ uint32_t full(uint32_t stage) const { return shared_address(memory) + 8 * stage; }
  __device__ uint32_t empty(uint32_t stage) const { return full(kMaxStages + stage); }
  __device__ uint32_t weights(uint32_t stage) const {
    return shared_address(memory) + kHeaderBytes + stage * ring.stage_bytes;
  }
  __device__ uint32_t rows(uint32_t stage) const {
    return weights(stage) + kConsumers * kPanelBlockBytes;
  }
  __device__ uint8_t* staging(uint32_t consumer) const {
    return memory + kHeaderBytes + ring.num_stages * ring.stage_bytes +
           consumer * ring.tile_rows * kBlockBytes;
  }

  __device__ void init_barriers() const {
    for (uint32_t stage = 0; stage < ring.num_stages; ++stage) {
      init_barrier(full(stage), 1);
      init_barrier(empty(stage), kCluster * kConsumers * 4);  // by each warp that reads it
    }
    publish_barriers();
  }

  __device__ __forceinline__ Item item_at(uint32_t index) const {
    Item item;
    item.tile = args.tiles[index / items.per_tile];
    item.first_panel = index % items.per_tile * kConsumers * kCluster;
    if constexpr (kCluster > 1) item.first_panel += rank_in_cluster() * kConsumers;
    const uint32_t end = min(item.first_panel + kConsumers, item.tile.num_panels);
    item.num_active = end > item.first_panel ? end - item.first_panel : 0;
    item.width = width_for(item.tile.num_rows);
    return item;
  }

  template <typename Body>
  __device__ __forceinline__ void for_items(Body body) const {
    for (uint32_t i = blockIdx.x / kCluster; i < items.num_items; i += gridDim.x / kCluster) {
      const Item item = item_at(i);
      if (kCluster > 1 || item.num_active > 0) body(item);
    }
  }

  __device__ void fetch_weights(const Item& item, uint32_t block, uint32_t stage) const {
    arrive_expecting(full(stage), item.num_active * kPanelBlockBytes + item.width * kBlockBytes);
    for (uint32_t i = 0; i < item.num_active; ++i) {
      const size_t at = size_t(item.first_panel + i) * item.tile.num_blocks + block;
      copy_bulk(weights(stage) + i * kPanelBlockBytes, item.tile.weights + at * kPanelBlockBytes,
                kPanelBlockBytes, full(stage));
    }
  }
  __device__ void fetch_rows(const Item& item, uint32_t block, uint32_t stage) const {
    const size_t at = size_t(block) * args.rows_stride + item.tile.first_row;
    const std::byte* from = args.rows + at * kBlockBytes;
    const uint32_t bytes = item.width * kBlockBytes / kCluster;
    if constexpr (kCluster == 1) {
      copy_bulk(rows(stage), from, bytes, full(stage));
    } else {
      const uint32_t skipped = rank_in_cluster() * bytes;
      copy_bulk_to((1 << kCluster) - 1, rows(stage) + skipped, from + skipped, bytes, full(stage));
    }
  }

  __device__ void produce() const {
    Cursor cursor;
    bool is_first = true;
    for_items([&](const Item& item) {
      const uint32_t num_ahead = is_first ? min(ring.num_stages, item.tile.num_blocks) : 0;
      for (uint32_t block = 0; block < num_ahead; ++block) fetch_weights(item, block, block);
      if (is_first) wait_for_kernels_before();
      is_first = false;
      for (uint32_t block = 0; block < item.tile.num_blocks; ++block) {
        if (block >= num_ahead) {
          if (cursor.round > 0) wait_for_phase(empty(cursor.stage), (cursor.round - 1) & 1);
          fetch_weights(item, block, cursor.stage);
        }
        fetch_rows(item, block, cursor.stage);
        cursor.advance(ring);
      }
    });
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
  __device__ __forceinline__ void consume(const Item& item, uint32_t consumer, Cursor& cursor,
                                          float (&low)[kCols / 2], float (&high)[kCols / 2]) const {
    uint32_t previous = 0;
#pragma unroll 1
    for (uint32_t block = 0; block < item.tile.num_blocks; ++block) {
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
    release(previous);
  }

  template <int kCols>
  __device__ __forceinline__ void multiply(const Item& item, uint32_t consumer,
                                           Cursor& cursor) const {
    float low[kCols / 2] = {}, high[kCols / 2] = {};
    consume<kCols>(item, consumer, cursor, low, high);
    const Work work{item.first_panel + consumer, item.tile.first_row, item.tile.num_rows};
    const uint32_t warp = threadIdx.x / 32 % 4;
    if (args.output == GemmOutput::kNumbers) {
      store_numbers<kCols>(args, work, warp, low, high);
    } else {
      store_bf16_activations<kCols>(args, work, warp, staging(consumer), low, high,
                                    [&] { sync_threads(1 + consumer, 128); });
    }
  }

  /// A consumer without a panel only lets the ring go on.
  __device__ void skip(const Item& item, Cursor& cursor) const {
    for (uint32_t block = 0; block < item.tile.num_blocks; ++block) {
      wait_for_phase(full(cursor.stage), cursor.round & 1);
      release(cursor.stage);
      cursor.advance(ring);
    }
  }

  /// By the narrowest product that takes all rows.
  template <int kMaxCols>
  __device__ __forceinline__ void multiply_rows(const Item& item, uint32_t consumer,
                                                Cursor& cursor) const {
    if (consumer >= item.num_active) return skip(item, cursor);
    if (item.width == 8) return multiply<8>(item, consumer, cursor);
    if (item.width == 16) return multiply<16>(item, consumer, cursor);
    if (item.width == 32) return multiply<32>(item, consumer, cursor);
    if (item.width == 64) return multiply<64>(item, consumer, cursor);
    if (item.width == 96) return multiply<96>(item, consumer, cursor);
    if constexpr (kMaxCols > kSmallRows) {
      if (item.width == 128) return multiply<128>(item, consumer, cursor);
      if (item.width == 160) return multiply<160>(item, consumer, cursor);
      multiply<192>(item, consumer, cursor);
    }
  }
};

#endif

template <int kConsumers, int kMaxCols, int kCluster>
__global__ __launch_bounds__(threads_for(kConsumers), kConsumers == 1 ? 2 : 1) void gemm_wgmma(
    const __grid_constant__ GemmArgs args, const __grid_constant__ Ring ring,
    const __grid_constant__ Items items) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t memory[];
  let_next_kernel_start();
  const Block<kConsumers, kCluster> block{args, ring, items, memory};
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
    Cursor cursor;
    block.for_items(
        [&](const auto& item) { block.template multiply_rows<kMaxCols>(item, consumer, cursor); });
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
  const bool has_staging = args.output == GemmOutput::kActivations;
  const uint32_t fixed =
      kHeaderBytes + (has_staging ? kConsumers * ring.tile_rows * uint32_t(kBlockBytes) : 0);
  ring.num_stages = min(kMaxStages, (budget - fixed) / ring.stage_bytes);
  bytes = fixed + ring.num_stages * ring.stage_bytes;
  return ring;
}

template <int kConsumers, int kMaxCols, int kCluster>
cudaError_t launch(const GemmArgs& args, uint32_t budget, uint32_t max_blocks,
                   cudaStream_t stream) {
  uint32_t bytes = 0;
  const Ring ring = cut_memory<kConsumers>(args, budget, bytes);
  Items items;
  items.per_tile = uint32_t(divide_up(args.max_panels, kConsumers * kCluster));
  items.num_items = args.num_tiles * items.per_tile;
  const uint32_t num_clusters = min(items.num_items, max_blocks / kCluster);
  return launch_kernel<gemm_wgmma<kConsumers, kMaxCols, kCluster>>(
      {.grid = dim3(num_clusters * kCluster),
       .num_threads = threads_for(kConsumers),
       .shared_bytes = bytes,
       .stream = stream,
       .overlap = true,
       .cluster = kCluster},
      args, ring, items);
}

}  // namespace

cudaError_t launch_gemm_wgmma(const GemmArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  // Two small blocks on a multiprocessor, of which one computes while the other begins or ends; or
  // one large one, whose rows serve two panels, and which stays. 227 KiB is what a multiprocessor
  // has.
  constexpr uint32_t kSmallBudget = 112 * 1024, kLargeBudget = 226 * 1024;
  if (args.max_rows <= kSmallRows) {
    return launch<1, kSmallRows, 1>(args, kSmallBudget, 1u << 30, stream);
  }
  const auto max_blocks = uint32_t(device.num_multiprocessors);
  if (args.uniform && args.max_panels % 4 == 0) {
    return launch<2, kMaxTileRows, 2>(args, kLargeBudget, max_blocks, stream);
  }
  return launch<2, kMaxTileRows, 1>(args, kLargeBudget, max_blocks, stream);
}

}  // namespace pregate::compute::cuda
