// How often an expert is in memory when it is needed. Experts are loaded on demand only, so that
// the policies are compared and nothing else.
#include <algorithm>
#include <set>

#include "cli/bench.h"
#include "cli/lookahead/batch_simulation.h"
#include "cli/lookahead/windows.h"
#include "cli/trace.h"
#include "worker/experts/cache/simulate.h"

namespace pregate::cli {
namespace {

using coordinator::BatchPolicyName;
using worker::ExpertKey;
using worker::ExpertSet;

struct Column {
  const char* heading;
  const char* eviction;
  size_t horizon;  ///< What is known ahead: see worker::SimulationOptions.
  bool within_step;
};

constexpr size_t kAll = std::numeric_limits<size_t>::max();

void print_heading(const std::string& what, std::span<const Column> columns) {
  fmt::print("{:<14}", what);
  for (const Column& column : columns) fmt::print(" {:>14}", column.heading);
}

void print_ratios(std::span<const ExpertSet> needs, size_t capacity, size_t step_times,
                  std::span<const Column> columns, uint64_t seed) {
  for (const Column& column : columns) {
    const auto policy =
        worker::make_eviction_policy(column.eviction, {.seed = seed, .num_layers = step_times})
            .value();
    const auto result = worker::simulate(needs,
                                         {.capacity = capacity,
                                          .horizon = column.horizon,
                                          .step_times = column.within_step ? step_times : 0},
                                         *policy);
    fmt::print(" {:>14.2f}", 100 * result.hit_ratio());
  }
}

// Read-ME's experts: one of seven for a token, the same in all layers, so that all layers of one
// come and go together.

/// Table 4 of the paper, for batches that it does not describe further.
struct Published {
  size_t capacity;
  double random, lru, belady;
};
constexpr Published kPublished[] = {{2, 34.19, 33.90, 44.16},
                                    {3, 50.14, 52.42, 61.82},
                                    {4, 67.52, 66.95, 77.21},
                                    {5, 82.91, 83.48, 88.03}};

constexpr Column kPublishedColumns[] = {{"random", "random", 0, false},
                                        {"lru", "lru", 0, false},
                                        {"lfu", "lfu", 0, false},
                                        {"belady: next", "belady", 1, false},
                                        {"belady: all", "belady", kAll, false}};

std::vector<ExpertSet> needs_of(const BatchOutcome& outcome) {
  std::vector<ExpertSet> needs;
  for (const auto& experts : outcome.experts) {
    ExpertSet& set = needs.emplace_back();
    for (const ExpertId expert : experts) set.emplace_back(LayerIdx(0), expert);
  }
  return needs;
}

void print_published_shape(BatchPolicyName name, const BenchLookaheadOptions& options) {
  const auto arrivals = make_arrivals(
      {.seed = options.seed, .num_requests = options.num_requests, .requests_per_second = 1.45});
  const BatchOutcome outcome =
      simulate_batches(arrivals, {.limits = {16, 64}, .policy = {.name = name}, .cost = kInMemory});
  const auto needs = needs_of(outcome);
  fmt::print("\n7 experts, 16 tokens a step, {}: {:.2f} experts a step in {} steps; hits in %\n",
             to_string(name), outcome.mean_experts, outcome.num_steps);
  print_heading("experts held", kPublishedColumns);
  fmt::print(" | published: random, lru, belady\n");
  for (const Published& row : kPublished) {
    fmt::print("{:<14}", row.capacity);
    print_ratios(needs, row.capacity, 1, kPublishedColumns, options.seed);
    fmt::print(" | {:>5.2f} {:>5.2f} {:>5.2f}\n", row.random, row.lru, row.belady);
  }
}

// Traces: each expert of each layer for itself.

constexpr Column kTraceColumns[] = {{"random", "random", 0, false},
                                    {"lru", "lru", 0, false},
                                    {"lfu", "lfu", 0, false},
                                    {"belady: layer", "belady", 1, true},
                                    {"belady: step", "belady", kAll, true},
                                    {"belady: all", "belady", kAll, false}};

/// Tokens [begin, begin + count) of a trace, an empty context before them or not.
struct Piece {
  const router::RoutingTrace* trace;
  size_t begin;
};

/// Of all traces in turn.
std::vector<Piece> pieces_of(std::span<const router::RoutingTrace> traces, size_t num_tokens,
                             size_t max_pieces) {
  std::vector<Piece> pieces;
  size_t longest = 0;
  for (const auto& trace : traces) longest = std::max(longest, trace.num_tokens() / num_tokens);
  for (size_t i = 0; i < longest; ++i) {
    for (const auto& trace : traces) {
      if (max_pieces > 0 && pieces.size() >= max_pieces) return pieces;
      if ((i + 1) * num_tokens <= trace.num_tokens()) pieces.push_back({&trace, i * num_tokens});
    }
  }
  return pieces;
}

/// `batch` pieces side by side, one token of each in a step; a rest that is fewer is left out.
std::vector<ExpertSet> needs_of(std::span<const Piece> pieces, size_t batch, size_t num_tokens) {
  std::vector<ExpertSet> needs;
  for (size_t p = 0; p + batch <= pieces.size(); p += batch) {
    for (size_t token = 0; token < num_tokens; ++token) {
      for (size_t layer = 0; layer < pieces[p].trace->num_layers(); ++layer) {
        std::set<ExpertKey> keys;
        for (const Piece& piece : pieces.subspan(p, batch)) {
          for (const uint16_t expert : piece.trace->experts_of(piece.begin + token, layer)) {
            keys.emplace(LayerIdx(piece.trace->layers[layer]), ExpertId(expert));
          }
        }
        needs.emplace_back(keys.begin(), keys.end());
      }
    }
  }
  return needs;
}

Status print_traces(const BenchLookaheadOptions& options) {
  std::vector<std::filesystem::path> files = options.text.files;
  std::erase_if(files, [](const auto& file) { return file.extension() != ".safetensors"; });
  if (files.empty()) {
    fmt::print("\nTraces: left out, none is among the texts\n");
    return {};
  }
  PREGATE_ASSIGN(const auto traces, read_traces(files));
  PREGATE_ASSIGN(const auto batches, parse_numbers("--batches", options.batches));
  PREGATE_ASSIGN(const auto budgets, parse_budgets(options));
  const size_t num_tokens = options.text.window_tokens;
  const auto pieces = pieces_of(traces, num_tokens, options.num_windows);
  const size_t num_layers = traces.front().num_layers();
  const size_t num_entries = num_layers * traces.front().num_experts;
  for (const size_t batch : batches) {
    const auto needs = needs_of(pieces, batch, num_tokens);
    fmt::print("\n{} layers of {} experts, {} at once, {} steps; hits in %\n", num_layers,
               traces.front().num_experts, batch, needs.size() / num_layers);
    print_heading("in memory", kTraceColumns);
    fmt::print("\n");
    for (const size_t percent : budgets) {
      fmt::print("{:<14}", fmt::format("{} %", percent));
      const size_t capacity = std::max<size_t>(1, num_entries * percent / 100);
      print_ratios(needs, capacity, num_layers, kTraceColumns, options.seed);
      fmt::print("\n");
    }
  }
  return {};
}

}  // namespace

Status print_hit_ratio(const BenchLookaheadOptions& options, const ExpertsHooks&,
                       const PhaseProgress&) {
  fmt::print(
      "\nHit ratios. Belady's policy knows the next step, the next layer, the step under way, or "
      "all that comes.\n");
  print_published_shape(BatchPolicyName::kDecodeFirst, options);
  print_published_shape(BatchPolicyName::kExpertAware, options);
  return print_traces(options);
}

}  // namespace pregate::cli
