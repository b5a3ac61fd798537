// A recorded trace said ahead: what a look-ahead that is never wrong would be worth.
#pragma once

#include <optional>

#include "router/lookahead/moe_layers.h"
#include "router/lookahead/sequence_memory.h"
#include "router/trace.h"

namespace pregate::router {

/// Says all of a step when it begins, for those sequences whose tokens, from their first one on,
/// are the beginning of a window of the trace. (A layer routes by what came before, so windows that
/// agree in their tokens agree in their experts too.) Sequences of which it saw no beginning, say
/// because a prefix was cached, are unknown to it.
class ReplayLookahead final : public Lookahead {
 public:
  /// kInvalidArgument when the trace is not of a model with such layers.
  static Result<std::unique_ptr<ReplayLookahead>> create(RoutingTrace trace, MoeLayers moe);

  std::string_view name() const override { return "replay"; }
  void begin_step(const StepTokens& step, LayerTime now, Plan& plan) override;
  void routed(LayerIdx, LayerTime, compute::Matrix<const float>, const Decisions&, Plan&) override {
  }

 private:
  using Windows = std::vector<uint32_t>;

  ReplayLookahead(RoutingTrace trace, MoeLayers moe);
  /// Those that the sequence may still be, after these rows.
  Windows follow(const compute::SequenceRows& rows, std::span<const TokenId> tokens) const;
  size_t window_tokens(uint32_t window) const;
  void need(size_t first_token, size_t num_tokens);

  const RoutingTrace trace_;
  const MoeLayers moe_;
  Windows all_windows_;
  SequenceMemory<Windows> memory_;
  std::optional<LayerTime> said_step_;
  std::vector<std::vector<bool>> needed_;  // scratch, [moe layer][expert]
};

}  // namespace pregate::router
