// Tokens drawn on a CUDA device from logits that lie there: penalties, if there are any, the
// largest of each row, and the draws, replayed from a recording. Beside it how often the rows could
// be read in that time.
//   draw_bench
#include <string_view>
#include <thread>

#include "base/random.h"
#include "bench/compute/cuda/measure.h"
#include "compute/cuda/scratch.h"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kVocabularies[] = {50304, 151936};
constexpr uint32_t kRows[] = {1, 8, 32, 64};
struct Way {
  std::string_view name;
  Draw rule;
  uint32_t num_said = 0;  ///< Tokens with penalties.
};
constexpr Way kWays[] = {
    {"greedy", {}},
    {"greedy, 1000 tokens penalized", {}, 1000},
    {"greedy, 20000 tokens penalized", {}, 20000},
    {"temperature 1", {.temperature = 1.0f}},
    {"temperature 0.8, top_p 0.95", {.temperature = 0.8f, .top_p = 0.95f}},
    {"temperature 0.7, top_k 20, top_p 0.8", {.temperature = 0.7f, .top_k = 20, .top_p = 0.8f}},
    {"min_p 0.05", {.temperature = 1.0f, .min_p = 0.05f}}};

/// Rows of logits that are normal with deviation 2.5, and room for what is found in them.
class Logits {
 public:
  Logits(const Machine& machine, uint32_t cols, uint32_t num_rows)
      : cols_(cols),
        num_rows_(num_rows),
        stream_(must(machine.device->make_stream())),
        logits_(*machine.device, *stream_),
        keys_(*machine.device, *stream_),
        states_(*machine.device, *stream_),
        draws_(*machine.device, *stream_),
        tokens_(*machine.device, *stream_),
        said_(*machine.device, *stream_),
        changes_(*machine.device, *stream_) {
    std::vector<float> logits(size_t{cols} * num_rows);
    for (float& logit : logits) logit = static_cast<float>(2.5 * random_.next_normal());
    upload(logits_, logits);
  }

  size_t bytes() const { return size_t{cols_} * num_rows_ * sizeof(float); }

  /// Seconds of all rows.
  double measure(const Draw& rule, uint32_t num_said) {
    std::vector<Draw> draws(num_rows_, rule);
    for (Draw& draw : draws) draw.place = random_.next_double();
    LargestArgs largest{.x = reinterpret_cast<const float*>(must(logits_.take(bytes()))),
                        .stride = cols_,
                        .cols = cols_,
                        .num_rows = num_rows_,
                        .keys = reinterpret_cast<uint64_t*>(
                            must(keys_.take(num_rows_ * kLargestParts * sizeof(uint64_t))))};
    if (!takes_largest(rule)) {
      largest.states =
          reinterpret_cast<DrawState*>(must(states_.take(num_rows_ * sizeof(DrawState))));
    }
    const DrawArgs args{
        .logits = largest,
        .draws = reinterpret_cast<const Draw*>(upload(draws_, draws)),
        .any_cut = is_cut(rule, cols_),
        .tokens = reinterpret_cast<uint32_t*>(must(tokens_.take(num_rows_ * sizeof(uint32_t))))};
    ChangeLogitsArgs changes;
    if (num_said > 0) changes = make_changes(num_said);
    const auto work = [&] {
      if (num_said > 0) stream_->change_logits(changes);
      stream_->find_largest(largest);
      if (!takes_largest(rule)) stream_->draw(args);
    };
    return cuda::measure(*stream_, work, kForAll);
  }

 private:
  /// Penalties that take as long as any, but leave the logits as they are. Of tokens far apart, in
  /// no order.
  ChangeLogitsArgs make_changes(uint32_t num_said) {
    std::vector<SaidToken> said;
    for (uint64_t i = 0; i < uint64_t{num_said} * num_rows_; ++i) {
      said.push_back({.token = uint32_t(i * 7919 % cols_), .num_generated = 1});
    }
    std::vector<RowChanges> rows;
    for (uint32_t row = 0; row < num_rows_; ++row) {
      rows.push_back({.said = {row * num_said, num_said}});
    }
    return {.x = reinterpret_cast<float*>(must(logits_.take(bytes()))),
            .stride = cols_,
            .cols = cols_,
            .num_rows = num_rows_,
            .rows = reinterpret_cast<const RowChanges*>(upload(changes_, rows)),
            .said = reinterpret_cast<const SaidToken*>(upload(said_, said))};
  }

  template <typename T>
  std::byte* upload(DeviceScratch& memory, const std::vector<T>& items) {
    std::byte* const there = must(memory.take(items.size() * sizeof(T)));
    stream_->upload(there, items.data(), items.size() * sizeof(T));
    must(stream_->synchronize());
    return there;
  }

  const uint32_t cols_, num_rows_;
  Random random_{5};
  const std::unique_ptr<Stream> stream_;
  DeviceScratch logits_, keys_, states_, draws_, tokens_, said_, changes_;
};

int run() {
  ThreadPool threads(std::thread::hardware_concurrency());
  const Machine machine = open_machine(threads);
  fmt::print("{}: read {:.2f} TB/s\n\n", machine.device->info().name,
             machine.limits.read_bytes_per_s / 1e12);
  fmt::print("| vocabulary | rows | draws | us | readings |\n| --- | --- | --- | --- | --- |\n");
  for (const uint32_t cols : kVocabularies) {
    for (const uint32_t num_rows : kRows) {
      Logits logits(machine, cols, num_rows);
      const double reading = static_cast<double>(logits.bytes()) / machine.limits.read_bytes_per_s;
      for (const auto& [name, rule, num_said] : kWays) {
        const double seconds = logits.measure(rule, num_said);
        fmt::print("| {} | {} | {} | {:.1f} | {:.1f} |\n", cols, num_rows, name, 1e6 * seconds,
                   seconds / reading);
      }
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace pregate::compute::cuda

int main(int argc, char**) {
  if (argc == 1) return pregate::compute::cuda::run();
  fmt::print(stderr, "draw_bench\n");
  return 2;
}
