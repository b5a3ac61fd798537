// What look-ahead is worth where only a part of the experts is in memory.
#include <algorithm>
#include <list>

#include "cli/bench.h"
#include "cli/expert_memory.h"
#include "cli/lookahead/windows.h"
#include "cli/measured_lookahead.h"
#include "cli/quantity.h"
#include "cli/trace.h"
#include "model/checkpoint/checkpoint.h"
#include "router/lookahead/replay.h"
#include "transport/mpi/mpi.h"
#include "worker/serving/cached_experts.h"

namespace pregate::cli {
namespace {

/// The tokens that a run chose, one after the other: the same in all runs, or something is wrong.
using Choices = std::vector<TokenId>;

/// What one run through all windows took.
struct RunTime {
  Duration prefill{}, decode{};
};

struct Contender {
  const char* name;
  const char* eviction;
  MakeLookahead make_lookahead;  ///< Empty: loads on demand only.
};

/// A contender, loaded, and what it has done so far.
struct Entry {
  std::string name;
  worker::CacheProbe probe;
  TextModel model;
  std::vector<double> prefill_seconds, decode_seconds;
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

TokenId likeliest(std::span<const float> logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

class SpeedTable {
 public:
  SpeedTable(const BenchLookaheadOptions& options, PhaseProgress loading)
      : options_(options), loading_(std::move(loading)) {}

  Status run() {
    PREGATE_ASSIGN(const auto batches, parse_numbers("--batches", options_.batches));
    PREGATE_ASSIGN(const auto budgets, parse_budgets(options_));
    PREGATE_TRY(measure());
    for (const size_t batch : batches) {
      PREGATE_TRY(record(batch));
      for (const size_t percent : budgets) PREGATE_TRY(compare(batch, percent));
    }
    return {};
  }

 private:
  Status measure() {
    PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options_.model.model));
    PREGATE_ASSIGN(const auto readers, expert_readers(checkpoint, options_.model.backend,
                                                      options_.model.weights, options_.memory));
    PREGATE_ASSIGN(sizes_, measure_experts(*checkpoint, readers.front()));
    if (sizes_.count > 0) return {};
    return fail(ErrorCode::kInvalidArgument, "--speed: {} has no experts",
                options_.model.model.string());
  }

  Result<TextModel> load(size_t batch, const MakeLookahead& make_lookahead,
                         const ExpertMemoryOptions& memory, worker::CacheProbe& probe) {
    const auto get_probe = [&probe]() -> worker::CacheProbe& { return probe; };
    const LocalExpertsOptions local{.model = options_.model, .memory = memory};
    return load_text_model(
        options_, options_.text, {.num_sequences = batch, .make_lookahead = make_lookahead},
        {.connect = connect_local_experts(local, get_probe, loading_)}, loading_);
  }

  /// With all experts in memory: what is chosen and, for the plan of all that comes, each layer's
  /// decisions.
  Status record(size_t batch) {
    progress_.reset();
    worker::CacheProbe probe;
    ExpertMemoryOptions memory = options_.memory;
    memory.memory_bytes = sizes_.total_bytes + sizes_.largest_bytes;
    PREGATE_ASSIGN(const auto model, load(batch, {}, memory, probe));
    PREGATE_ASSIGN(windows_, read_windows(model, options_));
    windows_.resize(windows_.size() / batch * batch);
    if (windows_.empty()) {
      return fail(ErrorCode::kInvalidArgument, "--batches {}: there are not so many windows",
                  batch);
    }
    PREGATE_TRY(check_room(*model.runtime, windows_, batch));
    PREGATE_TRY(record_routes(model));
    expected_.clear();
    PREGATE_ASSIGN(const RunTime time, compute(model, batch, expected_));
    fmt::print(
        "\n{}: {} experts of {} in all; {} windows of {} tokens, {} at once, {} of them "
        "context; with all in memory {}\n",
        options_.model.model.string(), sizes_.count, describe_bytes(sizes_.total_bytes),
        windows_.size(), window_tokens(), batch, num_context(),
        describe(to_seconds(time.prefill), to_seconds(time.decode)));
    return {};
  }

  Status record_routes(const TextModel& model) {
    RouteRecording recording(model.runtime->engine());
    for (const Window& window : windows_) PREGATE_TRY(recording.compute(window));
    routes_ = recording.take();
    return {};
  }

  size_t window_tokens() const { return options_.text.window_tokens; }
  size_t num_context() const { return std::min(options_.num_context_tokens, window_tokens()); }

  /// All windows, `batch` at once.
  Result<RunTime> compute(const TextModel& model, size_t batch, Choices& choices) {
    engine::Engine& engine = model.runtime->engine();
    const auto choose = [&](size_t, size_t, std::span<const float> logits) {
      choices.push_back(likeliest(logits));
    };
    RunTime time;
    for (size_t w = 0; w < windows_.size(); w += batch) {
      const auto now = std::span(windows_).subspan(w, batch);
      const TimePoint begin = system_clock().now();
      PREGATE_TRY(compute_step(engine, now, 0, num_context(), choose));
      const TimePoint decode = system_clock().now();
      for (size_t position = num_context(); position < window_tokens(); ++position) {
        PREGATE_TRY(compute_step(engine, now, position, 1, choose));
      }
      time.prefill += decode - begin;
      time.decode += system_clock().now() - decode;
      if (progress_)
        progress_->update("tokens", num_computed_ += batch * window_tokens(), num_in_all_);
    }
    return time;
  }

  void begin_progress(size_t percent) {
    num_computed_ = 0;
    num_in_all_ =
        contenders().size() * (options_.num_repeats + 1) * windows_.size() * window_tokens();
    progress_.emplace(text_progress(fmt::format("{} % in memory:", percent)), system_clock());
  }

  std::vector<Contender> contenders() {
    const auto guess = measured_lookahead({.source = "auto", .depth = options_.depth}, registry_);
    const auto replay =
        [this](const router::LookaheadParts& parts) -> Result<std::unique_ptr<router::Lookahead>> {
      return router::ReplayLookahead::create(routes_, parts.moe);
    };
    return {{"on demand, lru", "lru", {}},
            {"on demand, lfu", "lfu", {}},
            {"look-ahead", "belady", guess},
            {"all known", "belady", replay}};
  }

  Status compare(size_t batch, size_t percent) {
    ExpertMemoryOptions memory = options_.memory;
    memory.memory_bytes = std::max(sizes_.largest_bytes, sizes_.total_bytes * percent / 100);
    std::list<Entry> entries;
    begin_progress(percent);
    for (const Contender& contender : contenders()) {
      Entry& entry = entries.emplace_back(contender.name);
      memory.eviction = contender.eviction;
      PREGATE_ASSIGN(entry.model, load(batch, contender.make_lookahead, memory, entry.probe));
      Choices choices;
      PREGATE_TRY(compute(entry.model, batch, choices));  // Not timed: the cache is empty at first.
      PREGATE_TRY(check(entry, choices));
    }
    for (size_t i = 0; i < options_.num_repeats; ++i) {
      for (Entry& entry : entries) PREGATE_TRY(time_once(batch, entry));
    }
    print(percent, memory.memory_bytes, entries);
    return {};
  }

  Status time_once(size_t batch, Entry& entry) {
    Choices choices;
    PREGATE_ASSIGN(const RunTime time, compute(entry.model, batch, choices));
    entry.prefill_seconds.push_back(to_seconds(time.prefill));
    entry.decode_seconds.push_back(to_seconds(time.decode));
    return check(entry, choices);
  }

  Status check(const Entry& entry, const Choices& choices) const {
    if (choices == expected_) return {};
    return fail(ErrorCode::kInternal, "{}: not the tokens that were chosen with all in memory",
                entry.name);
  }

  /// Tokens per second.
  std::string describe(double prefill_seconds, double decode_seconds) const {
    const auto prefill = static_cast<double>(windows_.size() * num_context());
    const auto decode = static_cast<double>(windows_.size() * (window_tokens() - num_context()));
    return fmt::format("{:>9.1f} prefill {:>9.1f} decode tokens/s", prefill / prefill_seconds,
                       decode / decode_seconds);
  }

  void print(size_t percent, uint64_t memory_bytes, const std::list<Entry>& entries) const {
    fmt::print("{} % in memory ({}), tokens identical\n", percent, describe_bytes(memory_bytes));
    const Entry& first = entries.front();
    for (const Entry& entry : entries) {
      const double prefill = median(entry.prefill_seconds), decode = median(entry.decode_seconds);
      const auto& experts =
          dynamic_cast<const worker::CachedExperts&>(entry.model.runtime->engine().experts());
      const worker::CacheCounters counters = experts.cache().counters();
      fmt::print(
          "  {:<15} {}   ratio {:.2f} and {:.2f}   hits {:.3f}, loads {}, {} ahead, {} of "
          "these in vain\n",
          entry.name, describe(prefill, decode), median(first.prefill_seconds) / prefill,
          median(first.decode_seconds) / decode, counters.hit_ratio(),
          counters.demand_loads + counters.prefetch_loads, counters.prefetch_loads,
          counters.unused_prefetches);
    }
  }

  const BenchLookaheadOptions& options_;
  const PhaseProgress loading_;
  monitoring::Registry registry_;
  ExpertSizes sizes_;
  // Of the present batch.
  Windows windows_;
  router::RoutingTrace routes_;
  Choices expected_;
  // Of the present budget.
  std::optional<Progress> progress_;
  size_t num_computed_ = 0, num_in_all_ = 0;  // tokens
};

}  // namespace

Status print_speed(const BenchLookaheadOptions& options, const ExpertsHooks&,
                   const PhaseProgress& loading) {
  if (transport::launched_by_mpi()) {
    fmt::print("\nSpeed with a part of the experts in memory: left out under mpirun\n");
    return {};
  }
  return SpeedTable(options, loading).run();
}

}  // namespace pregate::cli
