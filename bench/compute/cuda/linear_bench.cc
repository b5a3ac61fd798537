// The linear maps of attention on a CUDA device when few rows go through them, which is when
// reading their weights is all that takes time: queries, keys and values in one launch and in one
// each, and the map of what attention gives. Many layers in turn, replayed from a recording; beside
// each time the part of it that reading takes at best. Once as linear_all() has it, where maps
// fetch few rows themselves, and once after a kernel that lays the rows out in any case.
//   linear_bench [--portable]
#include <span>
#include <string_view>
#include <thread>

#include "base/random.h"
#include "bench/compute/cuda/measure.h"
#include "compute/cuda/fetched_rows.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/scratch.h"

namespace pregate::compute::cuda {
namespace {

constexpr size_t kHeadDim = 128;

struct Shape {
  size_t hidden, num_heads, num_kv_heads;
};

constexpr Shape kShapes[] = {{2048, 16, 16}, {2048, 32, 4}, {4096, 32, 8}, {7168, 64, 8}};
constexpr WeightFormat kWeights[] = {WeightFormat::kBf16, WeightFormat::kF8, WeightFormat::kQ8};
constexpr uint32_t kRows[] = {1, 2, 8, 32};
/// Of weights: several times what caches hold.
constexpr size_t kReadBytes = size_t{512} << 20;

/// Maps of the same rows, in each of many layers.
class Maps {
 public:
  Maps(const Machine& machine, WeightFormat format, size_t inputs, std::vector<size_t> outputs)
      : format_(format),
        inputs_(inputs),
        outputs_(std::move(outputs)),
        stream_(must(machine.device->make_stream())),
        weights_(*machine.device, *stream_),
        encoded_(*machine.device, *stream_),
        rows_(*machine.device, *stream_),
        out_(*machine.device, *stream_) {
    for (const size_t count : outputs_) layer_bytes_ += matrix_bytes(count);
    num_layers_ = divide_up(kReadBytes, layer_bytes_);
    fill();
  }

  size_t layer_bytes() const { return layer_bytes_; }

  struct Way {
    uint32_t num_rows = 0;
    size_t maps_of_launch = 1;
    bool portable = false, lays_out = false;
  };

  /// Seconds of a layer.
  double measure(const Way& way) {
    const GatherArgs gather = lay_out(way.num_rows);
    const auto work = [&] {
      const std::byte* weights = weights_.take(0).value();
      for (size_t layer = 0; layer < num_layers_; ++layer) {
        multiply(gather, way, weights);
        weights += layer_bytes_;
      }
    };
    return cuda::measure(*stream_, work, kForAll) / static_cast<double>(num_layers_);
  }

 private:
  static size_t num_panels(size_t outputs) { return divide_up(outputs, kPanelRows); }
  size_t matrix_bytes(size_t outputs) const {
    return num_panels(outputs) * panel_bytes(format_, inputs_);
  }

  /// Weights may be any: where reading them takes the time, what they are does not matter.
  void fill() {
    std::vector<uint64_t> layer(divide_up(layer_bytes_, sizeof(uint64_t)));
    Random random(5);
    for (uint64_t& bytes : layer) bytes = random.next_u64();
    std::byte* const weights = must(weights_.take(num_layers_ * layer_bytes_));
    for (size_t i = 0; i < num_layers_; ++i) {
      stream_->upload(weights + i * layer_bytes_, layer.data(), layer_bytes_);
      must(stream_->synchronize());
    }
  }

  GatherArgs lay_out(uint32_t num_rows) {
    const size_t stride = round_up(num_rows, kAtomRows);
    const GatherArgs gather{
        .format = arithmetic_of(format_),
        .encoded = must(encoded_.take(num_rows * encoded_row_bytes(format_, inputs_))),
        .cols = uint32_t(inputs_),
        .num_rows = num_rows,
        .out = must(rows_.take(rows_bytes(format_, inputs_, stride))),
        .out_stride = uint32_t(stride),
        .out_blocks = uint32_t(num_blocks(format_, inputs_))};
    stream_->gather(gather);
    size_t all_outputs = 0;
    for (const size_t count : outputs_) all_outputs += count;
    must(out_.take(num_rows * all_outputs * sizeof(float)));
    return gather;
  }

  /// All maps of a layer.
  void multiply(const GatherArgs& gather, const Way& way, const std::byte* weights) {
    GemmArgs rows{.format = format_,
                  .rows = gather.out,
                  .rows_stride = gather.out_stride,
                  .rows_blocks = gather.out_blocks,
                  .num_tiles = 1,
                  .max_rows = way.num_rows,
                  .num_rows = way.num_rows,
                  .portable = way.portable};
    if (way.lays_out || !let_fetch(gather, rows)) stream_->gather(gather);
    std::byte* out = out_.take(0).value();
    GemmArgs product = rows;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      const auto panels = uint32_t(num_panels(outputs_[i])), cols = uint32_t(outputs_[i]);
      product.max_panels = std::max(product.max_panels, panels);
      product.maps[product.num_maps++] = {weights, panels, {out, cols, cols}};
      weights += matrix_bytes(outputs_[i]);
      out += way.num_rows * outputs_[i] * sizeof(float);
      if (product.num_maps < way.maps_of_launch) continue;
      stream_->gemm(product);
      product = rows;
    }
  }

  const WeightFormat format_;
  const size_t inputs_;
  const std::vector<size_t> outputs_;
  const std::unique_ptr<Stream> stream_;
  DeviceScratch weights_, encoded_, rows_, out_;
  size_t layer_bytes_ = 0;
  size_t num_layers_ = 0;
};

void report(const Machine& machine, const Shape& shape, std::string_view name, Maps& maps,
            WeightFormat format, Maps::Way way) {
  const double reading = static_cast<double>(maps.layer_bytes()) / machine.limits.read_bytes_per_s;
  fmt::print("| {} | {} | {} | {} | {} | {} |", shape.hidden, shape.num_heads, shape.num_kv_heads,
             name_of(format), name, way.num_rows);
  for (const bool lays_out : {false, true}) {
    way.lays_out = lays_out;
    const double seconds = maps.measure(way);
    fmt::print(" {:.1f} | {:.0f} % |", 1e6 * seconds, 100 * reading / seconds);
  }
  fmt::print("\n");
  std::fflush(stdout);
}

void report(const Machine& machine, const Shape& shape, WeightFormat format, bool portable) {
  const size_t of_q = shape.num_heads * kHeadDim, of_kv = shape.num_kv_heads * kHeadDim;
  Maps qkv(machine, format, shape.hidden, {of_q, of_kv, of_kv});
  Maps o(machine, format, of_q, {shape.hidden});
  for (const uint32_t rows : kRows) {
    report(machine, shape, "q, k, v", qkv, format, {rows, 3, portable});
    report(machine, shape, "q; k; v", qkv, format, {rows, 1, portable});
    report(machine, shape, "o", o, format, {rows, 1, portable});
  }
}

int run(bool portable) {
  ThreadPool threads(std::thread::hardware_concurrency());
  const Machine machine = open_machine(threads);
  fmt::print("{}: read {:.2f} TB/s\n\n", machine.device->info().name,
             machine.limits.read_bytes_per_s / 1e12);
  fmt::print(
      "| hidden | heads | of k, v | weights | maps | rows | us | of limit | after laying out, us | "
      "of limit |\n|");
  for (int i = 0; i < 10; ++i) fmt::print(" --- |");
  fmt::print("\n");
  for (const Shape& shape : kShapes) {
    for (const WeightFormat format : kWeights) report(machine, shape, format, portable);
  }
  return 0;
}

}  // namespace
}  // namespace pregate::compute::cuda

int main(int argc, char** argv) {
  const bool portable = argc == 2 && std::string_view(argv[1]) == "--portable";
  if (argc == 1 || portable) return pregate::compute::cuda::run(portable);
  fmt::print(stderr, "linear_bench [--portable]\n");
  return 2;
}
