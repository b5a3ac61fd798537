// Operations of the fastest back end at the size of OLMoE-1B-7B (hidden 2048, 64 experts of 1024,
// top-8, 16 heads of 128), as fractions of the limits measured in the same run.
//   compute_bench [--backend=cpu] [--threads=2] [Google Benchmark's flags]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/random.h"
#include "compute/backend.h"
#include "compute/limits.h"

namespace pregate::compute {
namespace {

constexpr size_t kHidden = 2048;
constexpr size_t kIntermediate = 1024;
constexpr size_t kNumExperts = 64;
constexpr size_t kTopK = 8;
constexpr size_t kHeads = 16;
constexpr size_t kHeadDim = 128;
constexpr size_t kVocabulary = 50304;

std::vector<float> random_numbers(size_t count) {
  Random random(1);
  std::vector<float> numbers(count);
  for (float& value : numbers) value = static_cast<float>(random.next_double() - 0.5);
  return numbers;
}

SourceMatrix source(const std::vector<float>& numbers, size_t rows, size_t cols) {
  return {reinterpret_cast<const std::byte*>(numbers.data()), DType::kF32, rows, cols};
}

using Experts = std::vector<std::unique_ptr<PackedExpert>>;
using Matrices = std::vector<std::unique_ptr<PackedMatrix>>;

class Machine {
 public:
  Machine(const std::string& name, size_t num_threads)
      : limits(measure_limits(name, threads_for(num_threads)).value()),
        backend(make_backend(name, *threads_).value()) {}

  double ops_limit(WeightFormat format) const {
    switch (format) {
      case WeightFormat::kF32:
        return limits.f32_flops;
      case WeightFormat::kBf16:
      case WeightFormat::kF8:
        return limits.bf16_flops;
      case WeightFormat::kQ8:
      case WeightFormat::kQ4:
        return limits.int8_ops_per_s;
    }
    return 0.0;
  }

  // Weights are kept from one benchmark to the next while they ask for the same: each is entered
  // several times, and packing takes longer than running.
  const Experts& experts(WeightFormat format);
  /// Several equal matrices, so that used in turn they come from memory as they do in a model.
  const Matrices& matrices(WeightFormat format, size_t out);

 private:
  ThreadPool& threads_for(size_t num_threads) {
    threads_ = std::make_unique<ThreadPool>(num_threads);
    return *threads_;
  }

  std::unique_ptr<ThreadPool> threads_;  // first: the members below use it
  Experts experts_;
  Matrices matrices_;

 public:
  const MachineLimits limits;
  const std::unique_ptr<Backend> backend;
};

const Experts& Machine::experts(WeightFormat format) {
  if (!experts_.empty() && experts_[0]->format() == format) return experts_;
  experts_.clear();
  const auto numbers = random_numbers(kIntermediate * kHidden);
  const SourceMatrix in = source(numbers, kIntermediate, kHidden);
  const SourceMatrix out = source(numbers, kHidden, kIntermediate);
  for (size_t e = 0; e < kNumExperts; ++e) {
    experts_.push_back(backend->pack_expert({in, in, out}, format).value());
  }
  return experts_;
}

const Matrices& Machine::matrices(WeightFormat format, size_t out) {
  if (!matrices_.empty() && matrices_[0]->format() == format &&
      matrices_[0]->out_features() == out) {
    return matrices_;
  }
  matrices_.clear();
  const auto numbers = random_numbers(out * kHidden);
  for (size_t bytes = 0; bytes < (size_t{128} << 20); bytes += matrices_.back()->bytes()) {
    matrices_.push_back(backend->pack(source(numbers, out, kHidden), format).value());
  }
  return matrices_;
}

struct Work {
  double ops = 0.0, bytes = 0.0;  // per iteration
};

/// Fractions are of the limits measured at start; GOP/s and GB/s tell when they moved.
void report(benchmark::State& state, const Machine& machine, WeightFormat format, Work work) {
  using benchmark::Counter;
  state.counters["GOP/s"] = Counter(work.ops / 1e9, Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = Counter(work.bytes / 1e9, Counter::kIsIterationInvariantRate);
  state.counters["of_ops"] =
      Counter(work.ops / machine.ops_limit(format), Counter::kIsIterationInvariantRate);
  state.counters["of_read"] =
      Counter(work.bytes / machine.limits.read_bytes_per_s, Counter::kIsIterationInvariantRate);
}

std::vector<std::byte> encoded_rows(Backend& backend, size_t rows, size_t cols,
                                    WeightFormat format) {
  const auto x = random_numbers(rows * cols);
  std::vector<std::byte> encoded(rows * encoded_row_bytes(format, cols));
  backend.encode({x.data(), rows, cols}, format, encoded.data());
  return encoded;
}

void bench_linear(benchmark::State& state, Machine& machine, WeightFormat format, size_t out) {
  const auto num_rows = static_cast<size_t>(state.range(0));
  Backend& backend = *machine.backend;
  const Matrices& weights = machine.matrices(format, out);
  const auto x = encoded_rows(backend, num_rows, kHidden, format);
  std::vector<float> y(num_rows * out);
  size_t next = 0;
  for (auto _ : state) {
    backend.linear({format, num_rows, kHidden, x.data()}, *weights[next], {},
                   {y.data(), num_rows, out});
    next = (next + 1) % weights.size();
  }
  report(state, machine, format,
         {2.0 * static_cast<double>(num_rows * out * kHidden),
          static_cast<double>(weights[0]->bytes())});
}

/// What a router decides: each row to kTopK different experts at random.
class Routing {
 public:
  Routing(Random& random, size_t num_rows) : rows_(kNumExperts), gates_(kNumExperts) {
    for (uint32_t row = 0; row < num_rows; ++row) {
      for (size_t chosen = 0; chosen < kTopK;) {
        const uint64_t expert = random.next_below(kNumExperts);
        if (!rows_[expert].empty() && rows_[expert].back() == row) continue;
        rows_[expert].push_back(row);
        gates_[expert].push_back(0.125f);
        ++chosen;
      }
    }
  }
  std::vector<ExpertTask> tasks(const Experts& experts) const {
    std::vector<ExpertTask> tasks;
    for (size_t e = 0; e < kNumExperts; ++e) {
      if (!rows_[e].empty()) tasks.push_back({experts[e].get(), rows_[e], rows_[e], gates_[e]});
    }
    return tasks;
  }

 private:
  std::vector<std::vector<uint32_t>> rows_;
  std::vector<std::vector<float>> gates_;
};

void bench_experts(benchmark::State& state, Machine& machine, WeightFormat format) {
  const auto num_rows = static_cast<size_t>(state.range(0));
  Backend& backend = *machine.backend;
  const Experts& experts = machine.experts(format);
  const auto x = encoded_rows(backend, num_rows, kHidden, format);
  std::vector<float> out(num_rows * kHidden);
  // Other experts in each step, and not one order for the caches to learn.
  constexpr size_t kRoutings = 64;
  Random random(2);
  std::vector<Routing> routings;
  for (size_t i = 0; i < kRoutings; ++i) routings.emplace_back(random, num_rows);
  std::vector<std::vector<ExpertTask>> tasks;
  for (const Routing& routing : routings) tasks.push_back(routing.tasks(experts));
  size_t next = 0;
  double touched_experts = 0.0;
  for (auto _ : state) {
    backend.experts({format, num_rows, kHidden, x.data()}, tasks[next],
                    {out.data(), num_rows, kHidden});
    touched_experts += static_cast<double>(tasks[next].size());
    next = (next + 1) % kRoutings;
  }
  report(state, machine, format,
         {2.0 * 3 * static_cast<double>(num_rows * kTopK * kHidden * kIntermediate),
          touched_experts / static_cast<double>(state.iterations()) *
              static_cast<double>(experts[0]->bytes())});
}

/// Rows at the end of a context of 1024 tokens, in one layer.
void bench_attention(benchmark::State& state, Machine& machine) {
  constexpr size_t kContext = 1024;
  const auto num_rows = static_cast<size_t>(state.range(0));
  Backend& backend = *machine.backend;
  const auto kv =
      backend.allocate_kv({1, kHeads, kHeadDim, DType::kBf16}, kContext / kKvBlockTokens).value();
  std::vector<uint32_t> blocks(kContext / kKvBlockTokens);
  for (uint32_t i = 0; i < blocks.size(); ++i) blocks[i] = (i * 7) % blocks.size();
  auto numbers = random_numbers(kContext * kHidden);
  const SequenceRows all{0, kContext, 0, blocks};
  const Matrix<float> rows(numbers.data(), kContext, kHidden);
  backend.place_heads(*kv, {}, {&all, 1}, rows, rows, rows);
  const SequenceRows last{0, num_rows, kContext - num_rows, blocks};
  std::vector<float> out(num_rows * kHidden);
  for (auto _ : state) {
    backend.attention(*kv, {0, kHeads, 0.09f, 0}, {&last, 1}, {numbers.data(), num_rows, kHidden},
                      {out.data(), num_rows, kHidden});
  }
  const double seen = static_cast<double>(num_rows) *
                      (static_cast<double>(kContext) - static_cast<double>(num_rows - 1) / 2);
  report(state, machine, WeightFormat::kF32,
         {4.0 * seen * kHidden, 4.0 * static_cast<double>(kContext * kHidden)});
}

void bench_encode(benchmark::State& state, Machine& machine, WeightFormat format) {
  const auto num_rows = static_cast<size_t>(state.range(0));
  const auto x = random_numbers(num_rows * kHidden);
  std::vector<std::byte> out(num_rows * encoded_row_bytes(format, kHidden));
  for (auto _ : state) {
    machine.backend->encode({x.data(), num_rows, kHidden}, format, out.data());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) *
                          static_cast<int64_t>(x.size() * sizeof(float)));
}

void bench_rms_norm(benchmark::State& state, Machine& machine) {
  const auto num_rows = static_cast<size_t>(state.range(0));
  const auto x = random_numbers(num_rows * kHidden);
  const auto weight = random_numbers(kHidden);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    machine.backend->rms_norm({x.data(), num_rows, kHidden}, weight, 1e-5f,
                              {y.data(), num_rows, kHidden});
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) *
                          static_cast<int64_t>(x.size() * sizeof(float)));
}

/// What comes back from four workers.
void bench_sum_rows(benchmark::State& state, Machine& machine) {
  constexpr size_t kAddends = 4;
  const auto num_rows = static_cast<size_t>(state.range(0));
  const auto x = random_numbers(kAddends * num_rows * kHidden);
  std::vector<const float*> addends;
  std::vector<uint32_t> ends;
  for (size_t row = 0; row < num_rows; ++row) {
    for (size_t i = 0; i < kAddends; ++i) addends.push_back(&x[(i * num_rows + row) * kHidden]);
    ends.push_back(static_cast<uint32_t>(addends.size()));
  }
  std::vector<float> sums(num_rows * kHidden);
  for (auto _ : state) {
    machine.backend->sum_rows({ends, addends}, {sums.data(), num_rows, kHidden});
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) *
                          static_cast<int64_t>(x.size() * sizeof(float)));
}

/// At temperature 1; with top_p 1 from all tokens; with a repetition penalty of so many.
void bench_draw(benchmark::State& state, Machine& machine, float top_p, uint32_t num_said = 0) {
  const auto num_rows = static_cast<size_t>(state.range(0));
  Random random(1);
  std::vector<float> logits(num_rows * kVocabulary);
  for (float& logit : logits) logit = static_cast<float>(2.5 * random.next_normal());
  std::vector<SaidToken> said;
  for (uint32_t i = 0; i < num_said; ++i) said.push_back({uint32_t(i * kVocabulary / num_said)});
  const LogitChanges changes{.said = said};  // of 1, so that the logits stay
  std::vector<Draw> draws(num_rows, {.temperature = 1.0f, .top_p = top_p, .changes = changes});
  std::vector<uint32_t> tokens(num_rows);
  for (auto _ : state) {
    for (Draw& draw : draws) draw.place = random.next_double();
    machine.backend->draw({logits.data(), num_rows, kVocabulary}, draws, tokens);
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * num_rows));
}

void register_all(Machine& machine) {
  const auto add = [](const std::string& name, auto body) {
    return benchmark::RegisterBenchmark(name.c_str(), body)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  const std::pair<WeightFormat, std::string> formats[] = {{WeightFormat::kQ4, "q4"},
                                                          {WeightFormat::kQ8, "q8"},
                                                          {WeightFormat::kF8, "f8"},
                                                          {WeightFormat::kBf16, "bf16"},
                                                          {WeightFormat::kF32, "f32"}};
  for (const auto& [format, name] : formats) {
    const auto experts = [&machine, format = format](auto& s) {
      bench_experts(s, machine, format);
    };
    const auto square = [&machine, format = format](auto& s) {
      bench_linear(s, machine, format, kHidden);
    };
    const auto logits = [&machine, format = format](auto& s) {
      bench_linear(s, machine, format, kVocabulary);
    };
    const auto encode = [&machine, format = format](auto& s) { bench_encode(s, machine, format); };
    add("experts/" + name, experts)->Arg(1)->Arg(4)->Arg(16)->Arg(64)->Arg(512);
    add("linear/" + name, square)->Arg(1)->Arg(16)->Arg(512);
    add("logits/" + name, logits)->Arg(1);
    add("encode/" + name, encode)->Arg(1)->Arg(512);
  }
  add("attention/bf16", [&machine](auto& s) { bench_attention(s, machine); })->Arg(1)->Arg(512);
  add("rms_norm", [&machine](auto& s) { bench_rms_norm(s, machine); })->Arg(1)->Arg(512);
  add("sum_rows", [&machine](auto& s) { bench_sum_rows(s, machine); })->Arg(1)->Arg(512);
  add("draw", [&machine](auto& s) { bench_draw(s, machine, 1.0f); })->Arg(1)->Arg(32);
  add("draw/top_p", [&machine](auto& s) { bench_draw(s, machine, 0.95f); })->Arg(1)->Arg(32);
  add("draw/penalty", [&machine](auto& s) { bench_draw(s, machine, 1.0f, 1000); })->Arg(1)->Arg(32);
}

/// Takes "--name=value" out of the arguments.
std::string take_flag(int* argc, char** argv, const std::string& name, std::string value) {
  const std::string prefix = "--" + name + "=";
  char** end = std::remove_if(argv + 1, argv + *argc, [&](const char* argument) {
    if (std::strncmp(argument, prefix.c_str(), prefix.size()) != 0) return false;
    value = argument + prefix.size();
    return true;
  });
  *argc = static_cast<int>(end - argv);
  return value;
}

int run(int argc, char** argv) {
  const std::string cores = std::to_string(std::max(1u, std::thread::hardware_concurrency()));
  const std::string name = take_flag(&argc, argv, "backend", "cpu");
  const std::string threads = take_flag(&argc, argv, "threads", cores);
  Machine machine(name, std::stoul(threads));
  const MachineLimits& limits = machine.limits;
  std::printf("%s, %s threads: read %.1f GB/s, int8 %.0f GOP/s, bf16 %.0f, f32 %.0f GFLOP/s\n",
              machine.backend->name().c_str(), threads.c_str(), limits.read_bytes_per_s / 1e9,
              limits.int8_ops_per_s / 1e9, limits.bf16_flops / 1e9, limits.f32_flops / 1e9);
  register_all(machine);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace pregate::compute

int main(int argc, char** argv) { return pregate::compute::run(argc, argv); }
