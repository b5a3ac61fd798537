// A layer of experts on a CUDA device, at the shapes of three models: rows that are there go in,
// their weighted sums come out. Several routings in turn, replayed from a recording, so that
// launching costs nothing. Beside each time: the least it could take, from the limits measured in
// the same run.
//   moe_bench [--tokens=1,8,64,512,4096] [--only=NAME] [--portable]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/random.h"
#include "compute/cpu/select.h"
#include "compute/cuda/arena.h"
#include "compute/cuda/loader.h"
#include "compute/cuda/plan.h"
#include "compute/cuda/scratch.h"
#include "compute/cuda/sent_plan.h"
#include "compute/cuda/weights.h"

namespace pregate::compute::cuda {
namespace {

struct Shape {
  const char* name;
  size_t hidden, intermediate, num_experts, top_k;
};

constexpr Shape kShapes[] = {{"olmoe-1b-7b", 2048, 1024, 64, 8},
                             {"qwen3-30b-a3b", 2048, 768, 128, 8},
                             {"deepseek-v3", 7168, 2048, 256, 8}};
constexpr double kSecondsOfARun = 0.05;
constexpr int kRuns = 7;
constexpr size_t kMaxRoutings = 8;

template <typename T>
T must(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "moe_bench: {}\n", result.error().message);
  std::exit(1);
}

void must(const Status& status) {
  if (status) return;
  fmt::print(stderr, "moe_bench: {}\n", status.error().message);
  std::exit(1);
}

/// All experts of a layer. They have the same weights, at different addresses.
class Layer {
 public:
  Layer(const std::shared_ptr<Device>& device, const Shape& shape, ThreadPool& threads)
      : arena_(device, "cuda:0", Arena::default_budget(device->info().free_bytes)) {
    const auto& kernels = *must(cpu::select_kernels("cpu"));
    std::vector<float> numbers(shape.hidden * shape.intermediate);
    Random random(7);
    for (float& value : numbers) value = static_cast<float>(random.next_normal() * 0.02);
    const auto* data = reinterpret_cast<const std::byte*>(numbers.data());
    const SourceMatrix up{data, DType::kF32, shape.intermediate, shape.hidden};
    const SourceMatrix down{data, DType::kF32, shape.hidden, shape.intermediate};
    const auto stream = must(device->make_stream());
    const Packer packer(kernels, WeightFormat::kBf16, threads);
    std::vector<std::byte> packed;
    for (size_t e = 0; e < shape.num_experts; ++e) {
      CudaExpert expert;
      expert.weight_format = WeightFormat::kBf16;
      expert.hidden = shape.hidden;
      expert.intermediate = shape.intermediate;
      if (packed.empty()) {
        packed.resize(expert.gate_up_bytes() + expert.down_bytes());
        must(packer.pack_gate_up(up, up, packed.data()));
        must(packer.pack(down, packed.data() + expert.gate_up_bytes()));
      }
      expert.memory = must(arena_.allocate(packed.size()));
      stream->upload(expert.memory.data(), packed.data(), packed.size());
      experts_.push_back(std::move(expert));
    }
    must(stream->synchronize());
  }

  const std::vector<CudaExpert>& experts() const { return experts_; }

 private:
  Arena arena_;
  std::vector<CudaExpert> experts_;
};

/// Rows of each expert when every token chooses among all alike.
class Routing {
 public:
  Routing(const Shape& shape, const std::vector<CudaExpert>& experts, size_t num_tokens,
          uint64_t seed)
      : rows_(shape.num_experts), gates_(shape.num_experts) {
    Random random(seed);
    std::vector<size_t> order(shape.num_experts);
    std::iota(order.begin(), order.end(), size_t{0});
    for (uint32_t token = 0; token < num_tokens; ++token) {
      for (size_t k = 0; k < shape.top_k; ++k) {
        std::swap(order[k], order[k + random.next_below(order.size() - k)]);
        rows_[order[k]].push_back(token);
        gates_[order[k]].push_back(1.0f / static_cast<float>(shape.top_k));
      }
    }
    std::vector<ExpertTask> tasks;
    for (size_t e = 0; e < experts.size(); ++e) {
      if (rows_[e].empty()) continue;
      ++num_used_;
      tasks.push_back({&experts[e], rows_[e], rows_[e], gates_[e]});
    }
    plan_ = plan_experts(tasks, num_tokens);
  }

  const ExpertsPlan& plan() const { return plan_; }
  size_t num_used() const { return num_used_; }

 private:
  std::vector<std::vector<uint32_t>> rows_;
  std::vector<std::vector<float>> gates_;
  size_t num_used_ = 0;
  ExpertsPlan plan_;
};

/// Everything a call needs, on the device.
class Call {
 public:
  Call(Device& device, const Shape& shape, const ExpertsPlan& plan, size_t num_tokens,
       bool portable)
      : pinned_(device), tables_(device), memory_(device) {
    send(device, shape, plan, num_tokens);
    place(shape, plan, num_tokens);
    for (GemmArgs* product : {&first_, &second_}) {
      product->format = WeightFormat::kBf16;
      product->rows_stride = gather_.num_rows;
      product->portable = portable;
    }
  }

  enum Part { kAll, kWithTables, kGather, kFirst, kSecond, kCombine };

  void run(Stream& stream, Part part) {
    if (part == kWithTables) {
      std::byte* const tables = must(tables_.take(1)) + table_offset_;
      stream.upload_pinned(tables, must(pinned_.take(1)) + table_offset_, table_bytes_);
    }
    const bool all = part <= kWithTables;
    if (all || part == kGather) stream.gather(gather_);
    if (all || part == kFirst) stream.gemm(first_);
    if (all || part == kSecond) stream.gemm(second_);
    if (all || part == kCombine) stream.combine(combine_);
  }

 private:
  /// Rows and tables.
  void send(Device& device, const Shape& shape, const ExpertsPlan& plan, size_t num_tokens) {
    std::vector<std::byte> rows(num_tokens * encoded_row_bytes(WeightFormat::kBf16, shape.hidden));
    Random random(3);
    for (std::byte& byte : rows) byte = std::byte(random.next_below(64));  // no NaN
    const auto stream = must(device.make_stream());
    const SentPlan sent = must(cuda::send(rows, plan, *stream, pinned_, tables_));
    must(stream->synchronize());
    gather_ = sent.gather;
    first_ = sent.gate_up;
    second_ = sent.down;
    combine_ = sent.combine;
    const auto* tables = reinterpret_cast<const std::byte*>(gather_.source);
    table_offset_ = size_t(tables - gather_.encoded);
    table_bytes_ = sent.size_bytes - table_offset_;
  }

  /// What the kernels hand to one another.
  void place(const Shape& shape, const ExpertsPlan& plan, size_t num_tokens) {
    const size_t places = plan.source.size(), inputs = plan.max_gate_up_panels * kHalfPanel;
    const auto bytes_of = [&](size_t cols) {
      return round_up(rows_bytes(WeightFormat::kBf16, cols, places), 1024);
    };
    const size_t product_bytes = places * shape.hidden * sizeof(float);
    std::byte* const rows =
        must(memory_.take(bytes_of(shape.hidden) + bytes_of(inputs) + product_bytes +
                          num_tokens * shape.hidden * sizeof(float)));
    std::byte* const activations = rows + bytes_of(shape.hidden);
    std::byte* const products = activations + bytes_of(inputs);
    gather_.format = WeightFormat::kBf16;
    gather_.cols = uint32_t(shape.hidden);
    gather_.out_stride = uint32_t(places);
    gather_.out_blocks = uint32_t(num_blocks(WeightFormat::kBf16, shape.hidden));
    gather_.out = rows;
    first_.rows = rows;
    first_.out = activations;
    first_.out_stride = uint32_t(places);
    second_.rows = activations;
    second_.out = products;
    second_.out_stride = second_.out_cols = uint32_t(shape.hidden);
    combine_.products = reinterpret_cast<const float*>(products);
    combine_.products_stride = combine_.cols = uint32_t(shape.hidden);
    combine_.out = reinterpret_cast<float*>(products + product_bytes);
  }

  PinnedScratch pinned_;
  DeviceScratch tables_, memory_;
  size_t table_offset_ = 0, table_bytes_ = 0;
  GatherArgs gather_;
  GemmArgs first_, second_;
  CombineArgs combine_;
};

using Calls = std::vector<std::unique_ptr<Call>>;

double seconds_of(Stream& stream, const Recording& all_calls, size_t num_calls, size_t count) {
  const auto begin = std::chrono::steady_clock::now();
  for (size_t i = 0; i < count; ++i) stream.replay(all_calls);
  must(stream.synchronize());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  return elapsed.count() / static_cast<double>(count * num_calls);
}

/// Of a call, the median of several runs of all routings in turn.
double measure(Stream& stream, const Calls& calls, Call::Part part) {
  const auto recording = must(stream.record([&] {
    for (const auto& call : calls) call->run(stream, part);
  }));
  seconds_of(stream, *recording, calls.size(), 1);
  const double about = seconds_of(stream, *recording, calls.size(), 3);
  const double of_all = about * static_cast<double>(calls.size());
  const auto count = std::max<size_t>(1, static_cast<size_t>(kSecondsOfARun / of_all));
  std::vector<double> runs(kRuns);
  for (double& run : runs) run = seconds_of(stream, *recording, calls.size(), count);
  std::ranges::sort(runs);
  return runs[kRuns / 2];
}

struct Options {
  std::vector<size_t> tokens{1, 8, 64, 512, 4096};
  std::string only;
  bool portable = false;
};

void report(const std::shared_ptr<Device>& device, const DeviceLimits& limits, const Shape& shape,
            const Layer& layer, size_t num_tokens, const Options& options) {
  Calls calls;
  double used = 0.0;
  const size_t num_routings = num_tokens > 1000 ? 2 : kMaxRoutings;
  for (size_t i = 0; i < num_routings; ++i) {
    const Routing routing(shape, layer.experts(), num_tokens, 100 + i);
    calls.push_back(
        std::make_unique<Call>(*device, shape, routing.plan(), num_tokens, options.portable));
    used += static_cast<double>(routing.num_used()) / static_cast<double>(num_routings);
  }
  const auto stream = must(device->make_stream());
  const double expert_numbers = 3.0 * static_cast<double>(shape.hidden * shape.intermediate);
  const auto n = static_cast<double>(num_tokens);
  const double bytes =
      2.0 * expert_numbers * used + n * static_cast<double>(shape.hidden) * (2 + 4);
  const double flops = 2.0 * expert_numbers * n * static_cast<double>(shape.top_k);
  const double floor = std::max(bytes / limits.read_bytes_per_s, flops / limits.bf16_flops);
  const double all = measure(*stream, calls, Call::kAll);
  const double with_tables = measure(*stream, calls, Call::kWithTables);
  fmt::print("| {} | {} | {:.1f} | {:.1f} | {:.2f} | {:.0f} | {:.0f} % | {:.0f} % |", shape.name,
             num_tokens, 1e6 * all, 1e6 * with_tables, bytes / all / 1e12, flops / all / 1e12,
             100 * floor / all, 100 * floor / with_tables);
  for (const Call::Part part : {Call::kGather, Call::kFirst, Call::kSecond, Call::kCombine}) {
    fmt::print(" {:.1f} |", 1e6 * measure(*stream, calls, part));
  }
  fmt::print("\n");
  std::fflush(stdout);
}

int run(const Options& options) {
  const auto device = must(devices().open(0));
  const DeviceLimits limits = must(device->measure_limits());
  fmt::print("{}: read {:.2f} TB/s, bf16 {:.0f} TFLOP/s\n\n", device->info().name,
             limits.read_bytes_per_s / 1e12, limits.bf16_flops / 1e12);
  fmt::print(
      "| shape | tokens | us | with tables | TB/s | TFLOP/s | of limit | with tables | "
      "gather | gate, up | down | combine |\n|");
  for (int i = 0; i < 12; ++i) fmt::print(" --- |");
  fmt::print("\n");
  ThreadPool threads(std::thread::hardware_concurrency());
  for (const Shape& shape : kShapes) {
    if (!options.only.empty() && options.only != shape.name) continue;
    const Layer layer(device, shape, threads);
    for (const size_t tokens : options.tokens) {
      report(device, limits, shape, layer, tokens, options);
    }
  }
  return 0;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--portable") {
      options.portable = true;
    } else if (argument.starts_with("--only=")) {
      options.only = argument.substr(7);
    } else if (argument.starts_with("--tokens=")) {
      options.tokens.clear();
      for (size_t at = 9; at < argument.size(); at = argument.find(',', at) + 1) {
        options.tokens.push_back(std::stoul(argument.substr(at)));
        if (argument.find(',', at) == std::string::npos) break;
      }
    } else {
      fmt::print(stderr, "moe_bench [--tokens=1,8,64,512,4096] [--only=NAME] [--portable]\n");
      std::exit(2);
    }
  }
  return options;
}

}  // namespace
}  // namespace pregate::compute::cuda

int main(int argc, char** argv) {
  return pregate::compute::cuda::run(pregate::compute::cuda::parse(argc, argv));
}
