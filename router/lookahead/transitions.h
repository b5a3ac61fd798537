// Which experts follow which, learned while the model runs: from one layer with experts to the
// next, and from the last one to the first of the next token.
#pragma once

#include <optional>

#include "router/lookahead/moe_layers.h"
#include "router/lookahead/need_estimate.h"
#include "router/lookahead/sequence_memory.h"

namespace pregate::router {

/// How often expert j of the following layer was used by rows that used expert i. Newer rows count
/// more: when i has been used `memory_rows` times, all that was counted for it is halved.
class TransitionTable {
 public:
  TransitionTable(size_t num_experts, size_t memory_rows);

  /// One row went from these experts to those.
  void learn(std::span<const ExpertId> from, std::span<const ExpertId> to);
  /// Sets likely[j], [num_experts], to the mean over `from` of the share of i's rows that used j;
  /// experts never seen say 0.
  void likely_after(std::span<const ExpertId> from, std::span<float> likely) const;

 private:
  const size_t num_experts_;
  const size_t memory_rows_;
  std::vector<uint32_t> uses_;    // [i]
  std::vector<uint32_t> counts_;  // [i, j]
};

struct TransitionsOptions {
  size_t memory_rows = 1024;
  size_t max_guesses = 32;  ///< For one layer and step.
};

class TransitionsLookahead final : public Lookahead {
 public:
  explicit TransitionsLookahead(MoeLayers moe, TransitionsOptions options = {});

  std::string_view name() const override { return "transitions"; }
  void begin_step(const StepTokens& step, LayerTime now, Plan& plan) override;
  /// After the last layer it guesses for the next step: there, each sequence is taken to go on.
  void routed(LayerIdx layer, LayerTime now, compute::Matrix<const float> rows,
              const Decisions& decisions, Plan& plan) override;

 private:
  struct Sequence {
    compute::SequenceRows rows;
    std::vector<ExpertId> before;  // of the row before these, in the last layer; empty: unknown
  };

  void learn_layer(size_t index, const Decisions& decisions);
  void learn_tokens(const Decisions& decisions);
  void guess_layer(size_t index, LayerTime when, const Decisions& decisions, Plan& plan);
  void guess_tokens(LayerTime when, const Decisions& decisions, Plan& plan);
  void add_row(const TransitionTable& table, std::span<const ExpertId> experts);

  const MoeLayers moe_;
  const TransitionsOptions options_;
  std::vector<TransitionTable> tables_;  // [moe layer], to the one after it; the last to the first
  NeedEstimate needs_;
  std::vector<float> likely_;  // scratch, [num_experts]
  SequenceMemory<std::vector<ExpertId>> memory_;

  // The current step.
  std::vector<Sequence> sequences_;
  std::vector<ExpertId> first_;     // [n * k] of the first layer; empty where rows dropped out
  std::vector<ExpertId> previous_;  // [n * k] of the layer before; empty as well
  std::optional<size_t> previous_index_;  // that layer
};

}  // namespace pregate::router
