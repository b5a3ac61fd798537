#include "compute/cuda/backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "compute/cpu/select.h"
#include "compute/cuda/fetched_rows.h"
#include "compute/cuda/kept_tables.h"
#include "compute/cuda/parcel.h"
#include "compute/cuda/sent_plan.h"
#include "compute/cuda/slices.h"
#include "compute/source.h"

namespace pregate::compute::cuda {
namespace {

/// The one arena of each device that is in use.
Result<std::shared_ptr<Arena>> arena_of(const std::shared_ptr<Device>& device,
                                        const std::string& name) {
  static std::mutex mutex;
  static std::map<const Device*, std::weak_ptr<Arena>> arenas;
  const std::lock_guard lock(mutex);
  std::weak_ptr<Arena>& known = arenas[device.get()];
  if (auto arena = known.lock()) return arena;
  const auto arena =
      std::make_shared<Arena>(device, name, Arena::default_budget(device->info().free_bytes));
  known = arena;
  return arena;
}

const CudaExpert& check(const PackedExpert* given, const EncodedRows& x) {
  const auto* expert = dynamic_cast<const CudaExpert*>(given);
  PREGATE_CHECK(expert != nullptr && expert->hidden == x.cols);
  PREGATE_CHECK(arithmetic_of(expert->format()) == arithmetic_of(x.format));
  return *expert;
}

void check(const ExpertTask& task, WeightFormat format, const EncodedRows& x,
           const Matrix<float>& out) {
  PREGATE_CHECK(check(task.expert, x).format() == format);
  PREGATE_CHECK(out.cols == x.cols && task.rows.size() == task.out_rows.size() &&
                task.rows.size() == task.gates.size());
  for (const uint32_t row : task.rows) PREGATE_CHECK(row < x.rows);
  for (const uint32_t row : task.out_rows) PREGATE_CHECK(row < out.rows);
}

/// Matrices in f32 are the gates of routers and the like: so small that the host has multiplied
/// rows of its own with them before those have come to the device.
constexpr size_t kMaxHostMatrixBytes = size_t{16} << 20;

bool serves_host(const SourceMatrix& weights, WeightFormat format) {
  return format == WeightFormat::kF32 &&
         weights.rows * weights.cols * sizeof(float) <= kMaxHostMatrixBytes;
}

/// Of what the arena leaves: rows that are shared have so small a part of it.
constexpr size_t kSharedPart = 4;

std::span<const std::byte> bytes_of(const EncodedRows& x) {
  return {x.data, x.rows * encoded_row_bytes(x.format, x.cols)};
}

const CudaMatrix& check(const LinearMap& map, const EncodedRows& x) {
  const auto* matrix = dynamic_cast<const CudaMatrix*>(map.weights);
  PREGATE_CHECK(matrix != nullptr && x.cols == matrix->cols);
  PREGATE_CHECK(arithmetic_of(x.format) == arithmetic_of(matrix->format()));
  PREGATE_CHECK(map.y.cols == matrix->rows && map.y.rows == x.rows);
  PREGATE_CHECK(map.bias.empty() || map.bias.size() == map.y.cols);
  return *matrix;
}

/// Whether `next` goes into the launch of the maps that are there already.
bool can_join(const GemmArgs& product, const LinearMap& next) {
  return product.num_maps < kMaxGemmMaps && next.weights->format() == product.format;
}

/// To those that `product` multiplies with in one launch.
void add_map(const GemmMap& map, WeightFormat format, GemmArgs& product) {
  product.format = format;
  product.max_panels = std::max(product.max_panels, map.num_panels);
  product.maps[product.num_maps++] = map;
}

/// Device memory for one row through a matrix.
size_t product_bytes(const EncodedRows& x, const CudaMatrix& matrix) {
  return 2 * encoded_row_bytes(x.format, x.cols) + matrix.num_panels() * kPanelRows * sizeof(float);
}

/// Of the largest of the tasks' experts; 1: there are none.
size_t product_bytes(std::span<const ExpertTask> tasks) {
  size_t bytes = 1;
  for (const ExpertTask& task : tasks) {
    bytes = std::max(bytes, product_bytes(static_cast<const CudaExpert&>(*task.expert)));
  }
  return bytes;
}

EncodedRows slice_rows(const EncodedRows& x, const RowRange& range) {
  return {x.format, range.count, x.cols,
          x.data + range.first * encoded_row_bytes(x.format, x.cols)};
}

}  // namespace

size_t product_bytes(const CudaExpert& expert) {
  const WeightFormat format = expert.weight_format;
  const size_t activations = expert.num_gate_up_panels() * kHalfPanel;
  const size_t blocks = num_blocks(format, expert.hidden) + num_blocks(format, activations);
  const size_t numbers = arithmetic_of(format) == WeightFormat::kBf16 ? 0 : activations;
  return blocks * kBlockBytes + (numbers + expert.num_down_panels() * kPanelRows) * sizeof(float);
}

void require(const Status& status) {
  if (!status) end_process(status.error());
}

// The log stays up: other threads may write to it until the end.
void end_process(const Error& error) {
  spdlog::critical("{}; this process ends", error.message);
  spdlog::default_logger()->flush();
  std::_Exit(EXIT_FAILURE);
}

Result<std::unique_ptr<Backend>> make_cuda_backend(std::shared_ptr<Device> device, size_t index,
                                                   ThreadPool& threads) {
  return CudaBackend::create(std::move(device), fmt::format("cuda:{}", index), threads);
}

CudaBackend::CudaBackend(std::shared_ptr<Device> device, std::string name, ThreadPool& threads,
                         std::unique_ptr<Stream> stream,
                         std::shared_ptr<CudaSharedRows> shared_rows)
    : name_(std::move(name)),
      device_(std::move(device)),
      threads_(threads),
      stream_(std::move(stream)),
      row_space_(std::make_shared<RowSpace>(device_, *stream_, std::move(shared_rows))),
      outbox_(*device_, *stream_),
      packed_(*device_, *stream_),
      received_(*device_, *stream_),
      rows_(*device_, *stream_),
      numbers_(*device_, *stream_),
      activations_(*device_, *stream_),
      products_(*device_, *stream_),
      out_(*device_, *stream_),
      routes_(*device_, *stream_),
      recordings_(*stream_) {}

CudaBackend::~CudaBackend() = default;

Result<std::unique_ptr<CudaBackend>> CudaBackend::create(std::shared_ptr<Device> device,
                                                         std::string name, ThreadPool& threads,
                                                         size_t row_bytes) {
  PREGATE_ASSIGN(auto stream, device->make_stream());
  PREGATE_ASSIGN(auto copies, device->make_stream());
  PREGATE_ASSIGN(auto arena, arena_of(device, name));
  const size_t reserve_bytes = Arena::reserve_beside(arena->budget_bytes());
  auto shared_rows = std::make_shared<CudaSharedRows>(
      Arena(device, name, reserve_bytes / kSharedPart), std::move(copies));
  std::unique_ptr<CudaBackend> backend(new CudaBackend(std::move(device), std::move(name), threads,
                                                       std::move(stream), std::move(shared_rows)));
  PREGATE_ASSIGN(backend->kernels_, cpu::select_kernels("cpu"));
  PREGATE_ASSIGN(backend->host_, make_backend(backend->kernels_->name, threads));
  backend->arena_ = std::move(arena);
  backend->row_bytes_ = row_bytes > 0 ? row_bytes : reserve_bytes / 2;
  return backend;
}

std::shared_ptr<DeviceMemory> CudaBackend::shared_rows() {
  row_space_->shared()->reserve();  // while nothing is done there that would have to wait
  return row_space_->shared();
}

Result<Arena::Block> CudaBackend::place(const std::byte* packed, size_t bytes) {
  PREGATE_ASSIGN(Arena::Block block, arena_->allocate(bytes));
  stream_->upload(block.data(), packed, bytes);
  PREGATE_TRY(synchronize());
  return block;
}

Result<std::unique_ptr<PackedMatrix>> CudaBackend::pack(const SourceMatrix& weights,
                                                        WeightFormat format) {
  PREGATE_TRY(check_source(weights));
  auto matrix = std::make_unique<CudaMatrix>();
  if (serves_host(weights, format)) {
    PREGATE_ASSIGN(matrix->on_host, host_->pack(weights, format));
  }
  matrix->weight_format = format;
  matrix->rows = weights.rows;
  matrix->cols = weights.cols;
  const size_t bytes = matrix->num_panels() * panel_bytes(format, weights.cols);
  PREGATE_ASSIGN(std::byte* const packed, packed_.take(bytes));
  PREGATE_TRY(Packer(*kernels_, format, threads_).pack(weights, packed));
  PREGATE_ASSIGN(matrix->memory, place(packed, bytes));
  return matrix;
}

Result<std::unique_ptr<PackedExpert>> CudaBackend::pack_expert(const ExpertSource& weights,
                                                               WeightFormat format) {
  PREGATE_TRY(check_source(weights));
  auto expert = std::make_unique<CudaExpert>();
  expert->weight_format = format;
  expert->hidden = weights.gate.cols;
  expert->intermediate = weights.gate.rows;
  const size_t bytes = expert->gate_up_bytes() + expert->down_bytes();
  PREGATE_ASSIGN(std::byte* const packed, packed_.take(bytes));
  const Packer packer(*kernels_, format, threads_);
  PREGATE_TRY(packer.pack_gate_up(weights.gate, weights.up, packed));
  const Status down = packer.pack(weights.down, packed + expert->gate_up_bytes());
  if (!down) return fail(in_context(down.error(), "down"));
  PREGATE_ASSIGN(expert->memory, place(packed, bytes));
  return expert;
}

Status CudaBackend::lay_out(const EncodedRows& x, GatherArgs args, GemmArgs& product) {
  args.format = arithmetic_of(x.format);
  args.cols = uint32_t(x.cols);
  args.out_blocks = uint32_t(num_blocks(x.format, x.cols));
  args.out_stride = uint32_t(round_up(args.num_rows, kAtomRows));
  product.rows_stride = args.out_stride;
  product.rows_blocks = args.out_blocks;
  if (let_fetch(args, product)) return {};
  PREGATE_ASSIGN(args.out, rows_.take(rows_bytes(x.format, x.cols, args.out_stride)));
  stream_->gather(args);
  product.rows = args.out;
  return {};
}

Result<GemmArgs> CudaBackend::lay_out_all(const EncodedRows& x, const std::byte* encoded) {
  const auto num_rows = uint32_t(x.rows);
  const RowTiles tiles = cut_tiles(num_rows);
  GemmArgs product{.num_tiles = tiles.num_tiles, .max_rows = tiles.max_rows, .num_rows = num_rows};
  PREGATE_TRY(lay_out(x, {.encoded = encoded, .num_rows = num_rows}, product));
  return product;
}

void CudaBackend::linear(const EncodedRows& x, const PackedMatrix& weights,
                         std::span<const float> bias, Matrix<float> y) {
  const LinearMap map{&weights, bias, y};
  const CudaMatrix& matrix = check(map, x);
  if (matrix.on_host == nullptr || are_here({x.data})) return linear_all(x, {&map, 1});
  host_->linear(x, *matrix.on_host, bias, y);
}

void CudaBackend::linear_all(const EncodedRows& x, std::span<const LinearMap> maps) {
  size_t bytes_of_row = 1;
  for (const LinearMap& map : maps) {
    bytes_of_row = std::max(bytes_of_row, product_bytes(x, check(map, x)));
  }
  for (const RowRange& range : cut_rows(x.rows, row_bytes_ / bytes_of_row)) {
    require(try_linear(slice_rows(x, range), maps, range));
  }
}

// Of rows of x; `range` says which those are of all.
Status CudaBackend::try_linear(const EncodedRows& x, std::span<const LinearMap> maps,
                               const RowRange& range) {
  Parcel parcel(row_space_.get());
  const size_t encoded = parcel.bring(bytes_of(x));
  for (const LinearMap& map : maps) parcel.bring(map.bias);
  PREGATE_TRY(parcel.send(*stream_, outbox_));
  PREGATE_ASSIGN(const GemmArgs rows, lay_out_all(x, parcel.at<std::byte>(encoded)));
  GemmArgs product = rows;
  for (size_t i = 0; i < maps.size(); ++i) {
    const Matrix<float> y = maps[i].y.slice_rows(range.first, range.count);
    PREGATE_ASSIGN(const Target target, target_of(y));
    const float* const bias = maps[i].bias.empty() ? nullptr : parcel.at<float>(encoded + 1 + i);
    const auto& weights = static_cast<const CudaMatrix&>(*maps[i].weights);
    add_map({.weights = weights.memory.data(),
             .num_panels = uint32_t(weights.num_panels()),
             .target = target.of_products(weights.rows, bias)},
            weights.format(), product);
    // What is on the way to host memory is in a buffer that the next map needs.
    const bool is_last = i + 1 == maps.size() || !target.is_final;
    if (!is_last && can_join(product, maps[i + 1])) continue;
    stream_->gemm(std::exchange(product, rows));
    PREGATE_TRY(deliver(target, y));
  }
  return {};
}

void CudaBackend::experts(const EncodedRows& x, std::span<const ExpertTask> tasks,
                          Matrix<float> out) {
  for (const ExpertTask& task : tasks) check(task, tasks.front().expert->format(), x, out);
  for (const RowRange& range : cut_rows(tasks, out.rows, row_bytes_ / product_bytes(tasks))) {
    const Matrix<float> part = out.slice_rows(range.first, range.count);
    require(range.count == out.rows ? try_experts(x, tasks, part)
                                    : try_experts(x, TaskSlice(tasks, range).tasks(), part));
  }
}

Status CudaBackend::try_experts(const EncodedRows& x, std::span<const ExpertTask> tasks,
                                Matrix<float> out) {
  const ExpertsPlan plan = plan_experts(tasks, out.rows);
  if (!plan.empty()) {
    PREGATE_ASSIGN(SentPlan sent, send(bytes_of(x), plan, *stream_, outbox_, row_space_.get()));
    return try_plan(x, sent, out);
  }
  PREGATE_CHECK(out.stride == out.cols);
  const std::vector<float> zeros(out.rows * out.cols);
  if (is_here(out.data)) {
    write(out.data, zeros.data(), zeros.size() * sizeof(float));
  } else {
    std::ranges::copy(zeros, out.data);
  }
  return {};
}

Status CudaBackend::try_plan(const EncodedRows& x, SentPlan plan, Matrix<float> out) {
  PREGATE_ASSIGN(const Target target, target_of(out));
  const size_t num_places = plan.gather.num_rows, stride = plan.down.max_panels * kPanelRows;
  const size_t activations = plan.gate_up.max_panels * kHalfPanel;
  plan.down.rows_blocks = uint32_t(num_blocks(plan.down.format, activations));
  PREGATE_TRY(lay_out(x, plan.gather, plan.gate_up));
  PREGATE_TRY(activate(plan.gate_up, plan.down));
  PREGATE_ASSIGN(std::byte* const products, products_.take(num_places * stride * sizeof(float)));
  plan.down.maps[0].target = {products, uint32_t(stride), uint32_t(stride)};
  stream_->gemm(plan.down);
  PREGATE_CHECK(target.stride == out.cols);
  plan.combine.products = reinterpret_cast<const float*>(products);
  plan.combine.products_stride = uint32_t(stride);
  plan.combine.out = target.numbers;
  plan.combine.cols = uint32_t(out.cols);
  stream_->combine(plan.combine);
  return deliver(target, out);
}

void CudaBackend::mlp(const EncodedRows& x, const PackedExpert& expert, Matrix<float> out) {
  const CudaExpert& here = check(&expert, x);
  PREGATE_CHECK(out.rows == x.rows && out.cols == x.cols);
  for (const RowRange& range : cut_rows(x.rows, row_bytes_ / product_bytes(here))) {
    require(try_mlp(slice_rows(x, range), here, out.slice_rows(range.first, range.count)));
  }
}

// What a plan would say is known: each row is at its own place, and its only product is its sum. So
// no table is sent, nor need anything be added up.
Status CudaBackend::try_mlp(const EncodedRows& x, const CudaExpert& expert, Matrix<float> out) {
  Parcel parcel(row_space_.get());
  const size_t encoded = parcel.bring(bytes_of(x));
  PREGATE_TRY(parcel.send(*stream_, outbox_));
  PREGATE_ASSIGN(GemmArgs gate_up, lay_out_all(x, parcel.at<std::byte>(encoded)));
  PREGATE_ASSIGN(const Target target, target_of(out));
  const ExpertTiles tiles = tiles_of(expert);
  GemmArgs down = gate_up;
  gate_up.output = GemmOutput::kActivations;
  add_map({tiles.gate_up.weights, tiles.gate_up.num_panels, {}}, expert.format(), gate_up);
  down.rows_blocks = tiles.down.num_blocks;
  const GemmTarget products = target.of_products(out.cols, nullptr);
  add_map({tiles.down.weights, tiles.down.num_panels, products}, expert.format(), down);
  PREGATE_TRY(activate(gate_up, down));
  stream_->gemm(down);
  return deliver(target, out);
}

// Its memory is of whole panels.
Status CudaBackend::activate(GemmArgs gate_up, GemmArgs& product) {
  const size_t inputs = size_t(gate_up.max_panels) * kHalfPanel;
  product.rows_stride = gate_up.rows_stride;
  PREGATE_ASSIGN(std::byte* const rows,
                 activations_.take(rows_bytes(product.format, inputs, product.rows_stride)));
  product.rows = rows;
  product.encoded = nullptr;
  if (arithmetic_of(product.format) == WeightFormat::kBf16) {
    gate_up.maps[0].target = {rows, product.rows_stride};
    stream_->gemm(gate_up);
    return {};
  }
  PREGATE_ASSIGN(std::byte* const numbers,
                 numbers_.take(product.rows_stride * inputs * sizeof(float)));
  gate_up.maps[0].target = {numbers, uint32_t(inputs)};
  stream_->gemm(gate_up);
  stream_->encode({.format = arithmetic_of(product.format),
                   .numbers = reinterpret_cast<const float*>(numbers),
                   .numbers_stride = uint32_t(inputs),
                   .tiles = gate_up.tiles,
                   .num_tiles = gate_up.num_tiles,
                   .max_rows = gate_up.max_rows,
                   .num_rows = gate_up.num_rows,
                   .out_blocks = product.rows_blocks,
                   .out = rows,
                   .out_stride = product.rows_stride});
  return {};
}

}  // namespace pregate::compute::cuda
