// Where routed rows go, worked out on the device: so few that one block does it all. A thread takes
// an expert, and then some of the rows' choices.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kLeastThreads = 256;

/// What an expert takes of the places and of the tiles, or all experts up to one.
struct Room {
  uint32_t places, tiles;
};

__device__ __forceinline__ Room room_for(uint32_t num_rows) {
  return {uint32_t(round_up(num_rows, kAtomRows)), cut_tiles(num_rows).num_tiles};
}

__device__ __forceinline__ void add(Room& sum, const Room& more) {
  sum.places += more.places;
  sum.tiles += more.tiles;
}

/// Of experts up to the thread's own: those of its warp, and then of the warps before. `rooms`:
/// [warps], of shared memory.
__device__ __forceinline__ Room add_up(Room own, Room* rooms) {
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const Room before{__shfl_up_sync(0xffffffffu, own.places, step),
                      __shfl_up_sync(0xffffffffu, own.tiles, step)};
    if (lane >= step) add(own, before);
  }
  if (lane == 31) rooms[warp] = own;
  __syncthreads();
  for (uint32_t w = 0; w < warp; ++w) add(own, rooms[w]);
  return own;
}

/// Of an expert's rows, which begin at `first`: `tile` and those after it.
__device__ __forceinline__ void write_tiles(const RouteArgs& args, uint32_t expert, uint32_t tile,
                                            uint32_t first, uint32_t num_rows) {
  if (num_rows == 0) return;
  const ExpertAddress address = args.experts[expert];
  const RowTiles tiles = cut_tiles(num_rows);
  GemmTile gate_up = args.gate_up_shape, down = args.down_shape;
  gate_up.weights = address.gate_up;
  down.weights = address.down;
  for (uint32_t at = 0; at < num_rows; at += tiles.max_rows, ++tile) {
    gate_up.first_row = down.first_row = first + at;
    gate_up.num_rows = down.num_rows = min(tiles.max_rows, num_rows - at);
    args.gate_up[tile] = gate_up;
    args.down[tile] = down;
  }
}

/// Which comes first in a row: that of the expert of the lower number, whatever its gate.
__device__ __forceinline__ uint32_t order_in_row(const RouteArgs& args, uint32_t choice) {
  const uint32_t* const ids = args.ids + choice / args.k * args.k;
  uint32_t before = 0;
  for (uint32_t i = 0; i < args.k; ++i) before += ids[i] < args.ids[choice] ? 1 : 0;
  return before;
}

__device__ __forceinline__ void clear(const RouteArgs& args) {
  for (uint32_t i = threadIdx.x; i < args.num_places; i += blockDim.x) args.source[i] = kNoRow;
  for (uint32_t i = threadIdx.x; i < args.num_tiles; i += blockDim.x) {
    args.gate_up[i] = args.gate_up_shape;
    args.down[i] = args.down_shape;
  }
  for (uint32_t row = threadIdx.x; row <= args.num_rows; row += blockDim.x) {
    args.first[row] = row * args.k;
  }
}

/// `next`: [experts], of shared memory; the next place of each.
__device__ __forceinline__ void place_choice(const RouteArgs& args, uint32_t choice,
                                             uint32_t* next) {
  const uint32_t place = atomicAdd(&next[args.ids[choice]], 1u), row = choice / args.k;
  const uint32_t at = row * args.k + order_in_row(args, choice);
  args.source[place] = row;
  args.place[at] = place;
  args.gates[at] = args.chosen_gates[choice];
}

__global__ __launch_bounds__(kMaxRoutedExperts) void route(const __grid_constant__ RouteArgs args) {
  __shared__ uint32_t counts[kMaxRoutedExperts];
  __shared__ Room rooms[kMaxRoutedExperts / 32];
  let_next_kernel_start();
  const uint32_t expert = threadIdx.x, num_choices = args.num_rows * args.k;
  counts[expert] = 0;
  __syncthreads();
  wait_for_kernels_before();
  clear(args);
  for (uint32_t i = threadIdx.x; i < num_choices; i += blockDim.x) {
    atomicAdd(&counts[args.ids[i]], 1u);
  }
  __syncthreads();
  const uint32_t num_rows = counts[expert];
  const Room own = room_for(num_rows), up_to = add_up(own, rooms);
  const uint32_t first_place = up_to.places - own.places;
  write_tiles(args, expert, up_to.tiles - own.tiles, first_place, num_rows);
  counts[expert] = first_place;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < num_choices; i += blockDim.x) place_choice(args, i, counts);
}

}  // namespace

cudaError_t launch_route(const RouteArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  const auto for_experts = uint32_t(round_up(args.num_experts, 32));
  const uint32_t num_threads = max(kLeastThreads, for_experts);
  return launch_kernel<route>({dim3(1), num_threads, 0, stream, can_overlap(device)}, args);
}

}  // namespace pregate::compute::cuda
