// One backbone: embedding, attention over the paged KV cache, routers, shared experts, logits.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "compute/backend.h"
#include "compute/row_memory.h"
#include "engine/expert_client.h"
#include "model/rotary.h"
#include "model/weights.h"
#include "router/lookahead/lookahead.h"
#include "router/router.h"

namespace pregate::engine {

/// Which rows of a sequence's part of a step need logits.
enum class LogitRows {
  kNone,
  kTokenOfLast,  ///< The last one, and of its logits only the token that is drawn from them.
  kLast,
  kAll,
};

/// Consecutive tokens of one sequence to be computed in a step.
struct StepSequence {
  std::span<const TokenId> tokens;
  size_t first_position = 0;  ///< Of tokens[0]; all before it must have been computed.
  size_t length_tokens = 0;   ///< Of the whole sequence as known now (dynamic rotary scaling asks).
  std::span<const uint32_t> blocks;  ///< Room for all positions up to the last token's.
  LogitRows logits = LogitRows::kLast;
  compute::Draw draw;  ///< With kTokenOfLast: how. Its changes stay as they are during the step.
};

/// A sequence that a step left out, from this layer on, because nobody holds these experts now.
struct SetAside {
  size_t sequence = 0;
  MissingExperts missing;
};

/// A row that asked for logits; `row` counts the rows of that sequence within this step.
struct LogitRow {
  size_t sequence = 0, row = 0;
  std::span<const float> logits;  ///< [vocab]; empty with kTokenOfLast.
  TokenId token = 0;              ///< With kTokenOfLast alone.
};

/// Called with some rows at a time: all with logits in order, then those with a token alone.
using LogitsVisitor = std::function<void(std::span<const LogitRow> rows)>;
/// Called with each.
using RowVisitor = std::function<void(size_t sequence, size_t row, std::span<const float> logits)>;
LogitsVisitor each_row(RowVisitor visit);

/// Called once per MoE layer and step with the router's decisions.
using RoutingObserver = std::function<void(LayerIdx layer, const router::Decisions& decisions)>;

/// Called once per dense layer and step with its MLP's input [n, h], in host memory.
using MlpObserver = std::function<void(LayerIdx layer, compute::Matrix<const float> rows)>;

/// Parts that an engine is put together from; what is referred to must outlive it.
struct EngineParts {
  const model::ModelConfig& config;
  model::BackboneWeights weights;
  compute::WeightFormat format = compute::WeightFormat::kBf16;
  compute::Backend& backend;
  ThreadPool& threads;                     ///< The back end's.
  std::unique_ptr<compute::KvStorage> kv;  ///< Of all layers of `config`.
  router::Router& router;
  ExpertClient& experts;
  router::Lookahead* lookahead = nullptr;  ///< Null: none. What it says goes to `experts`.
};

/// Used by one thread.
class Engine {
 public:
  explicit Engine(EngineParts parts);

  /// One forward pass over all rows. Returns the sequences, ascending, that were set aside: they
  /// get no logits, and the others are computed as without them. Of what was set aside, and of all
  /// after an error (from the experts), no trace is left but garbage in the KV entries of this
  /// step's positions, which the next step over them overwrites.
  Result<std::vector<SetAside>> step(std::span<const StepSequence> sequences,
                                     const LogitsVisitor& visit_logits);
  /// For callers with nothing to do meanwhile: to set one aside is an error.
  Status step_all(std::span<const StepSequence> sequences, RowVisitor visit_row);

  /// Only the first `num_tokens` can be drawn, as after them comes padding of the embedding. All,
  /// until this is called.
  void choose_among(size_t num_tokens);

  ExpertClient& experts() const { return parts_.experts; }
  router::Router& router() const { return parts_.router; }
  void set_routing_observer(RoutingObserver observer) { observer_ = std::move(observer); }
  void set_mlp_observer(MlpObserver observer) { mlp_observer_ = std::move(observer); }
  const model::ModelConfig& config() const { return parts_.config; }

 private:
  using Rows = compute::Matrix<float>;

  Status begin_step(std::span<const StepSequence> sequences);
  Status run_layers(std::span<const StepSequence> sequences);
  Status lay_out(std::span<const StepSequence> sequences);
  Status take_rows();
  Status place_rotary();
  router::StepTokens step_tokens() const { return {tokens_, positions_, lengths_, placed_}; }
  router::LayerTime time_of(LayerIdx layer) const;
  void look_ahead_from(LayerIdx layer);
  void look_ahead_after(LayerIdx layer);
  Status embed();
  void for_rows(const std::function<void(size_t first, size_t count)>& body);
  void attention(LayerIdx layer);
  void project_heads(LayerIdx layer);
  compute::HeadOptions head_options(LayerIdx layer) const;
  Status feed_forward(LayerIdx layer);
  /// Whether this step's layers are computed without looking at anything in between.
  bool can_run_unattended() const;
  void run_unattended();
  size_t chosen_bytes() const;
  compute::TopK chosen_in(LayerIdx layer, std::byte* chosen) const;
  void report_chosen();
  Status mixture_of_experts(LayerIdx layer);
  void mixture_unattended(LayerIdx layer);
  void add_shared_expert(const model::LayerWeights& weights);
  Status set_aside(std::span<const StepSequence> sequences, LayerIdx layer);
  std::vector<ExpertId> missing_experts(const compute::SequenceRows& rows) const;
  Status visit_logits(std::span<const StepSequence> sequences, const LogitsVisitor& visit);
  Result<Rows> make_logits(std::span<const uint32_t> hidden_rows);
  void read_logits(Rows logits, std::span<LogitRow> rows);
  void draw_tokens(Rows logits, std::span<const StepSequence> sequences, std::span<LogitRow> rows);
  compute::EncodedRows encode(Rows rows);
  compute::EncodedRows norm(Rows x, Rows addend, const compute::RowVector& weight, Rows y);

  EngineParts parts_;
  model::Rotary rotary_;
  RoutingObserver observer_;
  MlpObserver mlp_observer_;
  uint64_t num_steps_ = 0;
  const size_t max_unattended_rows_;  // 0: the experts or the router need the host
  size_t num_choosable_;              // leading tokens of the vocabulary

  // The current step.
  std::vector<size_t> present_;                // sequences not set aside, ascending
  std::vector<SetAside> set_aside_;            // the others
  std::vector<HomelessRow> homeless_;          // of the current layer
  std::vector<TokenId> tokens_;                // [n]
  std::vector<uint32_t> positions_;            // [n]
  std::vector<uint32_t> lengths_;              // [n], of each row's sequence
  std::vector<compute::SequenceRows> placed_;  // [present_.size()]
  router::Decisions decisions_;
  router::Plan plan_;             // scratch
  compute::EncodedRows encoded_;  // of normed_ (or context_), the input of the next linear maps
  Rows hidden_;                   // the residual stream; out_ is added to it by the next norm
  Rows q_, k_, v_;                // columns of the same rows
  Rows normed_, context_, out_, shared_, gate_, cos_, sin_;
  std::byte* encoded_memory_ = nullptr;  // where encoded_ lies
  bool is_unattended_ = false;
  std::byte* chosen_memory_ = nullptr;  // if unattended; [layer][ids [n * k], gates [n * k]]
  std::byte* host_chosen_ = nullptr;    // what the host has of it, if anybody observes

  // Where the views above lie, and what the host has of them.
  struct Storage {
    explicit Storage(compute::Backend& backend);
    compute::RowBuffer hidden, normed, qkv, context, out, shared, gate, cos, sin, encoded, chosen,
        logits;
    compute::HostBuffer host_chosen;
    compute::HostCopy host_rows, host_cos, host_sin, host_logits;
  } storage_;
};

}  // namespace pregate::engine
