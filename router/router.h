// Which experts a row goes to.
#pragma once

#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "compute/backend.h"

namespace pregate::router {

/// Decisions for n rows, row-major [n * top_k]. Experts of a row are in order of descending score;
/// equal scores in order of expert id. Gates are what expert outputs are multiplied with.
struct Decisions {
  size_t top_k = 0;
  std::vector<ExpertId> expert_ids;
  std::vector<float> gates;
};

/// How far ahead of the computation a router knows where rows will go.
enum class Horizon { kNone, kNextLayers, kAllLayers };

/// The rows of a step, as a router sees them before any layer has been computed.
struct StepTokens {
  std::span<const TokenId> tokens;                   ///< [n]
  std::span<const uint32_t> positions;               ///< [n], each in its sequence
  std::span<const uint32_t> lengths;                 ///< [n], of each row's sequence
  std::span<const compute::SequenceRows> sequences;  ///< Which rows are whose, and their KV blocks.
};

/// Used by one engine thread. Gate arithmetic is f32.
class Router {
 public:
  virtual ~Router() = default;
  virtual Horizon horizon() const { return Horizon::kNone; }
  /// Called before a step's first route(), and again within it when rows drop out, with those that
  /// are left. A step may be repeated, or its positions computed again later; what a router keeps
  /// of a sequence must allow it.
  virtual Status begin_step(const StepTokens& /*step*/) { return {}; }
  /// The experts that the rows of this step will go to in a layer, [n * k], where that is decided
  /// before the layer is computed; else empty. Until the next begin_step().
  virtual std::span<const ExpertId> decided(LayerIdx /*layer*/) const { return {}; }
  /// rows [n, h]: the layer's input after its norm. Overwrites `out`.
  virtual void route(LayerIdx layer, compute::Matrix<const float> rows, Decisions& out) = 0;
  /// Experts of a row, where unattended steps (compute/unattended.h) can be routed; else 0.
  virtual size_t unattended_top_k() const { return 0; }
  /// As route(), by operations that can be repeated. `chosen` [n * k] lies in row memory.
  virtual void route_unattended(LayerIdx /*layer*/, compute::Matrix<const float> /*rows*/,
                                const compute::TopK& /*chosen*/) {}
  /// With Horizon::kAllLayers, between steps: sets `experts` [n * k] to what a step over these rows
  /// will decide, the same bits. As in a step, what comes before a sequence's first row must be in
  /// its blocks, from a step or a preview; of the rows themselves it leaves there what the step
  /// will leave, so the step that follows finds nothing changed. kUnimplemented with another
  /// horizon.
  virtual Status preview(const StepTokens& /*rows*/, std::vector<ExpertId>& /*experts*/) {
    return fail(ErrorCode::kUnimplemented, "this router knows no expert before its layer");
  }
  /// Blocks that no sequence has, for previews of tokens that have none yet: so many, numbered from
  /// the KV cache's number of blocks on.
  virtual size_t num_preview_blocks() const { return 0; }
};

}  // namespace pregate::router
