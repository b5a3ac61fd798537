// A layer of experts on a CUDA device, at the shapes of three models: rows that are there go in,
// their weighted sums come out. Several routings in turn, replayed from a recording, so that
// launching costs nothing. Beside each time: the least it could take, from the limits measured in
// the same run.
//   moe_bench [--weights=bf16,f8,q8,q4] [--tokens=1,8,64,512,4096] [--only=NAME] [--portable]
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/random.h"
#include "bench/compute/cuda/measure.h"
#include "compute/cpu/weights.h"
#include "compute/cuda/arena.h"
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
constexpr size_t kMaxRoutings = 8;

/// All experts of a layer. They have the same weights, at different addresses.
class Layer {
 public:
  Layer(const Machine& machine, const Shape& shape, WeightFormat format)
      : shape_(shape),
        format_(format),
        arena_(machine.device, "cuda:0", Arena::default_budget(machine.device->info().free_bytes)) {
    std::vector<float> numbers(shape.hidden * shape.intermediate);
    Random random(7);
    for (float& value : numbers) value = static_cast<float>(random.next_normal() * 0.02);
    const auto* data = reinterpret_cast<const std::byte*>(numbers.data());
    const SourceMatrix up{data, DType::kF32, shape.intermediate, shape.hidden};
    const SourceMatrix down{data, DType::kF32, shape.hidden, shape.intermediate};
    const auto stream = must(machine.device->make_stream());
    const Packer packer(machine.kernels, format, machine.threads);
    std::vector<std::byte> packed;
    for (size_t e = 0; e < shape.num_experts; ++e) {
      CudaExpert expert;
      expert.weight_format = format;
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

  const Shape& shape() const { return shape_; }
  WeightFormat format() const { return format_; }
  const std::vector<CudaExpert>& experts() const { return experts_; }
  size_t expert_bytes() const { return experts_[0].gate_up_bytes() + experts_[0].down_bytes(); }

 private:
  const Shape shape_;
  const WeightFormat format_;
  Arena arena_;
  std::vector<CudaExpert> experts_;
};

/// Rows of each expert when every token chooses among all alike.
class Routing {
 public:
  Routing(const Layer& layer, size_t num_tokens, uint64_t seed)
      : rows_(layer.shape().num_experts), gates_(layer.shape().num_experts) {
    const Shape& shape = layer.shape();
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
    for (size_t e = 0; e < rows_.size(); ++e) {
      if (rows_[e].empty()) continue;
      ++num_used_;
      tasks.push_back({&layer.experts()[e], rows_[e], rows_[e], gates_[e]});
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

/// Everything a call needs, on the device. The kernels and their order are the back end's
/// (backend.cc).
class Call {
 public:
  /// `rows`: one of each token, encoded.
  Call(Device& device, const Shape& shape, const ExpertsPlan& plan, std::span<const std::byte> rows,
       bool portable)
      : format_(plan.format),
        stream_(must(device.make_stream())),
        outbox_(device, *stream_),
        rows_(device, *stream_),
        numbers_(device, *stream_),
        activations_(device, *stream_),
        products_(device, *stream_),
        sums_(device, *stream_) {
    send(plan, rows);
    gather(shape.hidden);
    activate(plan.max_gate_up_panels * kHalfPanel);
    combine(shape.hidden);
    for (GemmArgs* product : {&first_, &second_}) {
      product->format = format_;
      product->rows_stride = gather_.num_rows;
      product->portable = portable;
    }
  }

  enum Part { kAll, kWithTables, kGather, kFirst, kEncode, kSecond, kCombine };

  /// In bf16 the first product leaves rows for the second one.
  static bool has(Part part, WeightFormat format) {
    return part != kEncode || arithmetic_of(format) != WeightFormat::kBf16;
  }

  void run(Stream& stream, Part part) {
    if (part == kWithTables) {
      stream.upload_pinned(tables_.device, tables_.pinned, table_bytes_);
    }
    const auto asked = [&](Part one) {
      return (part <= kWithTables || part == one) && has(one, format_);
    };
    if (asked(kGather)) stream.gather(gather_);
    if (asked(kFirst)) stream.gemm(first_);
    if (asked(kEncode)) stream.encode(encode_);
    if (asked(kSecond)) stream.gemm(second_);
    if (asked(kCombine)) stream.combine(combine_);
  }

 private:
  /// Rows and tables.
  void send(const ExpertsPlan& plan, std::span<const std::byte> rows) {
    const SentPlan sent = must(cuda::send(rows, plan, *stream_, outbox_));
    must(stream_->synchronize());
    gather_ = sent.gather;
    first_ = sent.gate_up;
    second_ = sent.down;
    combine_ = sent.combine;
    const auto* first_table = reinterpret_cast<const std::byte*>(gather_.source);
    const auto offset = size_t(first_table - gather_.encoded);
    tables_ = {sent.piece.pinned + offset, sent.piece.device + offset};
    table_bytes_ = sent.size_bytes - offset;
  }

  void gather(size_t hidden) {
    const size_t places = gather_.num_rows;
    gather_.format = arithmetic_of(format_);
    gather_.cols = uint32_t(hidden);
    gather_.out_stride = uint32_t(places);
    gather_.out_blocks = uint32_t(num_blocks(format_, hidden));
    gather_.out = must(rows_.take(rows_bytes(format_, hidden, places)));
    first_.rows = gather_.out;
    first_.rows_blocks = gather_.out_blocks;
  }

  /// From the first product to the second, which has `inputs`.
  void activate(size_t inputs) {
    const size_t places = gather_.num_rows;
    std::byte* const rows = must(activations_.take(rows_bytes(format_, inputs, places)));
    second_.rows = rows;
    second_.rows_blocks = uint32_t(num_blocks(format_, inputs));
    first_.maps[0].target = {rows, uint32_t(places)};
    if (!has(kEncode, format_)) return;
    std::byte* const numbers = must(numbers_.take(places * inputs * sizeof(float)));
    first_.maps[0].target = {numbers, uint32_t(inputs)};
    encode_ = {.format = arithmetic_of(format_),
               .numbers = reinterpret_cast<const float*>(numbers),
               .numbers_stride = uint32_t(inputs),
               .tiles = first_.tiles,
               .num_tiles = first_.num_tiles,
               .max_rows = first_.max_rows,
               .out_blocks = second_.rows_blocks,
               .out = rows,
               .out_stride = uint32_t(places)};
  }

  /// From the second product to the sums.
  void combine(size_t hidden) {
    std::byte* const products = must(products_.take(gather_.num_rows * hidden * sizeof(float)));
    const auto cols = uint32_t(hidden);
    second_.maps[0].target = {products, cols, cols};
    combine_.products = reinterpret_cast<const float*>(products);
    combine_.products_stride = combine_.cols = cols;
    combine_.out =
        reinterpret_cast<float*>(must(sums_.take(combine_.num_rows * hidden * sizeof(float))));
  }

  const WeightFormat format_;
  const std::unique_ptr<Stream> stream_;  // that sends
  Outbox outbox_;
  DeviceScratch rows_, numbers_, activations_, products_, sums_;
  Outbox::Piece tables_;
  size_t table_bytes_ = 0;
  GatherArgs gather_;
  GemmArgs first_, second_;
  EncodeArgs encode_;
  CombineArgs combine_;
};

using Calls = std::vector<std::unique_ptr<Call>>;

/// Of a call, when those of all routings are made in turn.
double measure(Stream& stream, const Calls& calls, Call::Part part, const Effort& effort) {
  const auto make_all = [&] {
    for (const auto& call : calls) call->run(stream, part);
  };
  return cuda::measure(stream, make_all, effort) / static_cast<double>(calls.size());
}

struct Options {
  std::vector<WeightFormat> formats{WeightFormat::kBf16, WeightFormat::kF8, WeightFormat::kQ8,
                                    WeightFormat::kQ4};
  std::vector<size_t> tokens{1, 8, 64, 512, 4096};
  std::string only;
  bool portable = false;
};

/// What a call cannot do without.
struct Work {
  double bytes = 0.0, ops = 0.0;
};

Work work_of(const Layer& layer, size_t num_tokens, double num_used) {
  const Shape& shape = layer.shape();
  const auto n = static_cast<double>(num_tokens);
  const size_t row_bytes =
      encoded_row_bytes(layer.format(), shape.hidden) + shape.hidden * sizeof(float);
  const double of_row = 2.0 * 3 * static_cast<double>(shape.hidden * shape.intermediate);
  return {num_used * static_cast<double>(layer.expert_bytes()) + n * static_cast<double>(row_bytes),
          of_row * n * static_cast<double>(shape.top_k)};
}

/// Calls of several routings, with rows that differ from one another as those of a model do: the
/// power that products take depends on their numbers, and the clock on the power.
Calls make_calls(const Machine& machine, const Layer& layer, std::span<const Routing> routings,
                 size_t num_tokens, bool portable) {
  const size_t row_bytes = encoded_row_bytes(layer.format(), layer.shape().hidden);
  std::vector<std::byte> rows(num_tokens * row_bytes);
  std::vector<float> row(layer.shape().hidden);
  Random random(3);
  for (size_t r = 0; r < num_tokens; ++r) {
    for (float& value : row) value = static_cast<float>(2.0 * random.next_double() - 1.0);
    cpu::encode_row(machine.kernels, row, layer.format(), rows.data() + r * row_bytes);
  }
  Calls calls;
  for (const Routing& routing : routings) {
    calls.push_back(
        std::make_unique<Call>(*machine.device, layer.shape(), routing.plan(), rows, portable));
  }
  return calls;
}

/// The least time over the time. Nothing where products of int8 may be what takes longest, as their
/// peak is not measured; it is no lower than that of bf16, so where reading takes longer than
/// products in bf16 would, reading is the limit.
std::string of_limit(const DeviceLimits& limits, WeightFormat format, const Work& work,
                     double seconds) {
  const double reading = work.bytes / limits.read_bytes_per_s;
  const double multiplying = work.ops / limits.bf16_flops;
  if (has_scales(format) && multiplying > reading) return "-";
  return fmt::format("{:.0f} %", 100 * std::max(reading, multiplying) / seconds);
}

void report_parts(Stream& stream, const Calls& calls, WeightFormat format) {
  for (const Call::Part part :
       {Call::kGather, Call::kFirst, Call::kEncode, Call::kSecond, Call::kCombine}) {
    if (Call::has(part, format)) {
      fmt::print(" {:.1f} |", 1e6 * measure(stream, calls, part, kForParts));
    } else {
      fmt::print(" - |");
    }
  }
  fmt::print("\n");
  std::fflush(stdout);
}

void report(const Machine& machine, const Layer& layer, size_t num_tokens, bool portable) {
  std::vector<Routing> routings;
  const size_t num_routings = num_tokens > 1000 ? 2 : kMaxRoutings;
  double num_used = 0.0;
  for (size_t i = 0; i < num_routings; ++i) {
    routings.emplace_back(layer, num_tokens, 100 + i);
    num_used += static_cast<double>(routings[i].num_used()) / static_cast<double>(num_routings);
  }
  const Calls calls = make_calls(machine, layer, routings, num_tokens, portable);
  const Work work = work_of(layer, num_tokens, num_used);
  const auto stream = must(machine.device->make_stream());
  const double all = measure(*stream, calls, Call::kAll, kForAll);
  const double with_tables = measure(*stream, calls, Call::kWithTables, kForAll);
  fmt::print("| {} | {} | {} | {:.1f} | {:.1f} | {:.2f} | {:.0f} | {} | {} |", layer.shape().name,
             name_of(layer.format()), num_tokens, 1e6 * all, 1e6 * with_tables,
             work.bytes / all / 1e12, work.ops / all / 1e12,
             of_limit(machine.limits, layer.format(), work, all),
             of_limit(machine.limits, layer.format(), work, with_tables));
  report_parts(*stream, calls, layer.format());
}

void print_heading(const Machine& machine) {
  fmt::print("{}: read {:.2f} TB/s, bf16 {:.0f} TFLOP/s\n\n", machine.device->info().name,
             machine.limits.read_bytes_per_s / 1e12, machine.limits.bf16_flops / 1e12);
  fmt::print(
      "| shape | weights | tokens | us | with tables | TB/s | TOP/s | of limit | with tables | "
      "gather | gate, up | encode | down | combine |\n|");
  for (int i = 0; i < 14; ++i) fmt::print(" --- |");
  fmt::print("\n");
}

int run(const Options& options) {
  ThreadPool threads(std::thread::hardware_concurrency());
  const Machine machine = open_machine(threads);
  print_heading(machine);
  for (const Shape& shape : kShapes) {
    if (!options.only.empty() && options.only != shape.name) continue;
    for (const WeightFormat format : options.formats) {
      const Layer layer(machine, shape, format);
      for (const size_t tokens : options.tokens) {
        report(machine, layer, tokens, options.portable);
      }
    }
  }
  return 0;
}

[[noreturn]] void end_with_usage() {
  fmt::print(stderr,
             "moe_bench [--weights=bf16,f8,q8,q4] [--tokens=1,8,64,512,4096] [--only=NAME] "
             "[--portable]\n");
  std::exit(2);
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> items;
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) items.push_back(item);
  if (items.empty()) end_with_usage();
  return items;
}

WeightFormat parse_format(const std::string& name) {
  for (const auto& [known, format] : kFormats) {
    if (known == name) return format;
  }
  end_with_usage();
}

size_t parse_tokens(const std::string& text) {
  size_t tokens = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, tokens);
  if (parsed.ec != std::errc() || parsed.ptr != end || tokens == 0) end_with_usage();
  return tokens;
}

template <typename T>
std::vector<T> parse_each(const std::string& list, T (*parse)(const std::string&)) {
  std::vector<T> values;
  for (const std::string& item : split(list)) values.push_back(parse(item));
  return values;
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
      options.tokens = parse_each(argument.substr(9), parse_tokens);
    } else if (argument.starts_with("--weights=")) {
      options.formats = parse_each(argument.substr(10), parse_format);
    } else {
      end_with_usage();
    }
  }
  return options;
}

}  // namespace
}  // namespace pregate::compute::cuda

int main(int argc, char** argv) {
  return pregate::compute::cuda::run(pregate::compute::cuda::parse(argc, argv));
}
