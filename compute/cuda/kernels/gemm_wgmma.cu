// bf16 products on Hopper. A producer warp brings blocks of weights and rows into a ring of stages
// by bulk copies; each consumer warpgroup multiplies a panel of its own with the rows, which all of
// them share. Weights come first, before the kernel that made the rows has ended.
//
// Where there are few panels, several blocks share one: a multiprocessor alone brings weights
// slower than the memory has them for all. Large tiles are limited by what the second-level cache
// delivers: 37 bytes a cycle for a whole multiprocessor at full speed. Hence tiles as large as the
// registers hold.
#include "compute/cuda/kernels/descriptor.cuh"
#include "compute/cuda/kernels/epilogue.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/wgmma.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kMaxStages = 32;
/// Barriers, before the stages, which must begin at a multiple of 1024.
constexpr uint32_t kHeaderBytes = 1024;
constexpr uint32_t kSmallRows = 96;
/// Of a panel. A quarter is half of what a warpgroup's product has; with eighths products wait for
/// more of one another.
constexpr uint32_t kMaxParts = 4;

/// How panels are cut among blocks, and the shared memory of a block.
struct Cut {
  uint32_t parts = 1;  ///< Of a panel; more than one only where kHalves is 1.
  uint32_t num_stages = 0;
  uint32_t stage_bytes = 0;
  uint32_t weight_bytes = 0;  ///< Of a stage.
};

/// With two consumers the producer is a whole warpgroup, as only such give registers to others: the
/// sums of a tile of 192 rows take 192 registers.
constexpr uint32_t threads_for(int consumers) {
  return consumers * 128 + (consumers > 1 ? 128 : 32);
}

/// Of a consumer, when it has whole halves of a panel.
constexpr uint32_t weight_bytes_for(int halves) { return halves * kHalfPanel * kBlockBytes; }

constexpr uint32_t kHeldBlockBytes = kAtomRows * kBlockBytes;

/// The narrowest product for so many rows: 8, 16, 32, 48, ...
constexpr uint32_t width_for(uint32_t rows) {
  return rows <= 8 ? 8 : rows <= 16 ? 16 : (rows + 15) / 16 * 16;
}

#if __CUDA_ARCH_FEAT_SM90_ALL

constexpr uint32_t wider(uint32_t width) { return width == 8 ? 16 : width + 16; }

constexpr uint32_t kPanelBlockBytes = panel_block_bytes(WeightFormat::kBf16);
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;
constexpr uint32_t kWarpOutputs = 16;  // of a product

/// The place in the ring and how often it was gone round.
struct Cursor {
  uint32_t stage = 0, round = 0;
  __device__ __forceinline__ void advance(const Cut& cut) {
    if (++stage < cut.num_stages) return;
    stage = 0;
    ++round;
  }
};

/// kHalves: of a panel, for which a consumer has sums; 1: it multiplies a part of no more than
/// that.
template <int kConsumers, int kHalves>
struct Block {
  static constexpr uint32_t kWeightBytes = weight_bytes_for(kHalves);

  const GemmArgs& args;
  const Cut& cut;
  const GemmTile tile;
  const uint32_t first_panel, num_active, width;
  const uint32_t first_output, num_outputs;  // of a panel
  const uint32_t shared;                     // of the header

  __device__ uint32_t full(uint32_t stage) const { return shared + 8 * stage; }
  __device__ uint32_t empty(uint32_t stage) const { return full(kMaxStages + stage); }
  __device__ uint32_t weights(uint32_t stage) const {
    return shared + kHeaderBytes + stage * cut.stage_bytes;
  }
  __device__ uint32_t rows(uint32_t stage) const { return weights(stage) + cut.weight_bytes; }

  /// Rows that are not laid out are few: a block has all of them before it begins.
  __device__ __forceinline__ bool holds_rows() const {
    return kConsumers == 1 && args.encoded != nullptr;
  }
  __device__ uint32_t held() const { return empty(kMaxStages); }
  __device__ uint32_t held_rows(uint32_t block) const {
    return weights(cut.num_stages) + block * kHeldBlockBytes;
  }

  __device__ void init_barriers() const {
    if (holds_rows()) init_barrier(held(), 128);
    for (uint32_t stage = 0; stage < cut.num_stages; ++stage) {
      init_barrier(full(stage), 1);
      init_barrier(empty(stage), num_active * 4);  // by each warp that reads it
    }
    publish_barriers();
  }

  __device__ void fetch_weights(uint32_t block, uint32_t stage) const {
    const uint32_t bytes = num_outputs * kBlockBytes;
    const uint32_t bytes_of_rows = holds_rows() ? 0 : width * kBlockBytes;
    arrive_expecting(full(stage), num_active * bytes + bytes_of_rows);
    for (uint32_t i = 0; i < num_active; ++i) {
      const size_t at = size_t(first_panel + i) * tile.num_blocks + block;
      copy_bulk(weights(stage) + i * kWeightBytes,
                tile.weights + at * kPanelBlockBytes + first_output * kBlockBytes, bytes,
                full(stage));
    }
  }
  __device__ void fetch_rows(uint32_t block, uint32_t stage) const {
    if (holds_rows()) return;
    const size_t at = size_t(block) * args.rows_stride + tile.first_row;
    copy_bulk(rows(stage), args.rows + at * kBlockBytes, width * kBlockBytes, full(stage));
  }

  __device__ void produce() const {
    const uint32_t num_ahead = min(cut.num_stages, tile.num_blocks);
    for (uint32_t block = 0; block < num_ahead; ++block) fetch_weights(block, block);
    if (!holds_rows()) wait_for_kernels_before();
    for (uint32_t block = 0; block < num_ahead; ++block) fetch_rows(block, block);
    Cursor cursor{0, 1};
    for (uint32_t block = num_ahead; block < tile.num_blocks; ++block) {
      wait_for_phase(empty(cursor.stage), (cursor.round - 1) & 1);
      fetch_weights(block, cursor.stage);
      fetch_rows(block, cursor.stage);
      cursor.advance(cut);
    }
  }

  __device__ __forceinline__ void release(uint32_t stage) const {
    if (threadIdx.x % 32 == 0) arrive(empty(stage));
  }

  /// By the consumer: all k blocks of its few rows, laid out. What is behind the last row gives
  /// sums that nobody stores.
  __device__ __forceinline__ void hold_rows() const {
    constexpr uint32_t kChunks = kBlockBytes / 16;
    wait_for_kernels_before();
    const uint32_t chunks_of_row = tile.num_blocks * kChunks;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < tile.num_rows * chunks_of_row; i += 128) {
      const uint32_t row = i / chunks_of_row, chunk = i % chunks_of_row;
      const std::byte* const from = encoded_row(args, tile.first_row + row) + 16 * chunk;
      store_shared(held_rows(chunk / kChunks) + swizzled(row, chunk % kChunks * 16),
                   *reinterpret_cast<const uint4*>(from));
    }
    show_to_products();
    arrive(held());
    wait_for_phase(held(), 0);
  }

  /// The sums of one consumer's panel. Where it has less than half of one, what is behind its
  /// weights, be it other stages, gives sums that nobody stores.
  template <int kCols>
  __device__ __forceinline__ void consume(uint32_t consumer,
                                          float (&sums)[kHalves][kCols / 2]) const {
    if (holds_rows()) hold_rows();
    Cursor cursor;
    uint32_t previous = 0;
#pragma unroll 1
    for (uint32_t block = 0; block < tile.num_blocks; ++block) {
      wait_for_phase(full(cursor.stage), cursor.round & 1);
      const uint32_t panel = weights(cursor.stage) + consumer * kWeightBytes;
      const uint64_t b = matrix_descriptor(holds_rows() ? held_rows(block) : rows(cursor.stage));
      begin_products();
#pragma unroll
      for (uint32_t step = 0; step < 4; ++step) {  // of 16 inputs, 32 bytes
#pragma unroll
        for (uint32_t half = 0; half < kHalves; ++half) {
          const uint64_t a = matrix_descriptor(panel + half * kHalfPanel * kBlockBytes);
          Wgmma<kCols>::add(sums[half], a + 2 * step, b + 2 * step);
        }
      }
      commit_products();
      wait_for_products<1>();
      if (block > 0) release(previous);
      previous = cursor.stage;
      cursor.advance(cut);
    }
    wait_for_products<0>();
  }

  template <int kCols>
  __device__ __forceinline__ void store(const Work& work,
                                        const float (&sums)[kHalves][kCols / 2]) const {
    const uint32_t warp = threadIdx.x / 32 % 4;
    const GemmTarget& target = target_of(args, blockIdx.y);
    if constexpr (kHalves == 1) {
      if (warp * kWarpOutputs >= num_outputs) return;
      const uint32_t first = work.panel * kPanelRows + first_output;
      store_numbers<kCols>(target, work, Place(warp), first, sums[0]);
    } else if (args.output == GemmOutput::kNumbers) {
      store_numbers<kCols>(target, work, warp, sums[0], sums[1]);
    } else {
      store_bf16_activations<kCols>(target, work, warp, sums[0], sums[1]);
    }
  }

  template <int kCols>
  __device__ __forceinline__ void multiply(uint32_t consumer) const {
    float sums[kHalves][kCols / 2] = {};
    consume<kCols>(consumer, sums);
    store<kCols>({first_panel + consumer, tile.first_row, tile.num_rows}, sums);
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

template <int kConsumers, int kHalves, int kMaxCols>
__global__ __launch_bounds__(threads_for(kConsumers), kConsumers == 1 ? 2 : 1) void gemm_wgmma(
    const __grid_constant__ GemmArgs args, const __grid_constant__ Cut cut) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  uint8_t* const memory = dynamic_shared_memory();
  let_next_kernel_start();
  const GemmTile tile = tile_of(args, blockIdx.y);
  const uint32_t parts = kHalves == 1 ? cut.parts : 1;
  const uint32_t first_panel = blockIdx.x / parts * kConsumers;
  if (first_panel >= tile.num_panels || tile.num_rows == 0) return;
  const uint32_t num_outputs = kPanelRows / parts;
  const Block<kConsumers, kHalves> block{args,
                                         cut,
                                         tile,
                                         first_panel,
                                         min(uint32_t(kConsumers), tile.num_panels - first_panel),
                                         width_for(tile.num_rows),
                                         blockIdx.x % parts * num_outputs,
                                         num_outputs,
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
Cut cut_memory(uint32_t weight_bytes, uint32_t num_rows, uint32_t budget) {
  Cut cut;
  cut.weight_bytes = weight_bytes;
  cut.stage_bytes = uint32_t(round_up(weight_bytes + num_rows * kBlockBytes, 1024));
  cut.num_stages = min(kMaxStages, (budget - kHeaderBytes) / cut.stage_bytes);
  return cut;
}

template <int kConsumers, int kHalves, int kMaxCols>
cudaError_t launch(const GemmArgs& args, uint32_t parts, uint32_t budget, cudaStream_t stream) {
  // Behind the last stage there are rows that are held, and what products of less than half a panel
  // read past their weights.
  const uint32_t held_bytes = args.encoded == nullptr ? 0 : args.rows_blocks * kHeldBlockBytes;
  const uint32_t past_bytes = held_bytes + (kHalves == 1 ? weight_bytes_for(kHalves) : 0);
  const uint32_t outputs = kHalves == 1 ? kPanelRows / parts : kHalves * kHalfPanel;
  const uint32_t stage_rows = args.encoded == nullptr ? width_for(args.max_rows) : 0;
  Cut cut = cut_memory(kConsumers * outputs * kBlockBytes, stage_rows, budget - past_bytes);
  cut.parts = parts;
  const dim3 grid(uint32_t(divide_up(args.max_panels, kConsumers)) * parts, count_tiles(args));
  const uint32_t bytes = kHeaderBytes + cut.num_stages * cut.stage_bytes + past_bytes;
  return launch_kernel<gemm_wgmma<kConsumers, kHalves, kMaxCols>>(
      {grid, threads_for(kConsumers), bytes, stream, true}, args, cut);
}

/// Panels of all tiles.
size_t count_panels(const GemmArgs& args) {
  size_t of_maps = 0;
  for (uint32_t i = 0; i < args.num_maps; ++i) of_maps += args.maps[i].num_panels;
  return of_maps * args.num_tiles;
}

/// As many blocks share a panel as find a multiprocessor each. Gate and up, of which each output
/// needs its like in the other half, stay together.
uint32_t parts_of_panel(const GemmArgs& args, size_t num_multiprocessors) {
  if (args.output != GemmOutput::kNumbers) return 1;
  uint32_t parts = 1;
  while (parts < kMaxParts && 2 * parts * count_panels(args) <= num_multiprocessors) parts *= 2;
  return parts;
}

}  // namespace

cudaError_t launch_gemm_wgmma(const GemmArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  // Two small blocks on a multiprocessor, of which one computes while the other begins or ends; or
  // one large one, whose rows serve two panels. 227 KiB is what a multiprocessor has.
  constexpr uint32_t kSmall = 112 * 1024, kLarge = 226 * 1024;
  if (args.max_rows > kSmallRows) return launch<2, 2, kMaxTileRows>(args, 1, kLarge, stream);
  const uint32_t parts = parts_of_panel(args, device.num_multiprocessors);
  if (parts == 1) return launch<1, 2, kSmallRows>(args, parts, kSmall, stream);
  return launch<1, 1, kSmallRows>(args, parts, kSmall, stream);
}

}  // namespace pregate::compute::cuda
