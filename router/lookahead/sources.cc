#include "router/lookahead/sources.h"

#include <algorithm>
#include <array>

#include "router/lookahead/next_gate.h"
#include "router/lookahead/pregate_lookahead.h"
#include "router/lookahead/replay.h"
#include "router/lookahead/transitions.h"

namespace pregate::router {
namespace {

constexpr std::array kNames{"none", "auto", "next_gate", "transitions", "pregate"};
constexpr std::string_view kReplay = "replay:";

using MadeSource = Result<std::unique_ptr<Lookahead>>;

bool decides_ahead(const LookaheadParts& parts) {
  return parts.router.horizon() == Horizon::kAllLayers;
}

MadeSource make_pregate(const LookaheadParts& parts) {
  if (decides_ahead(parts)) return std::make_unique<PregateLookahead>(parts.router, parts.moe);
  return fail(ErrorCode::kInvalidArgument,
              "look-ahead pregate: the model's router decides layer by layer");
}

MadeSource make_next_gate(const LookaheadParts& parts, size_t depth) {
  const auto has_gate = [&](LayerIdx layer) { return parts.gates.at(layer.value) != nullptr; };
  if (std::ranges::all_of(parts.moe.layers, has_gate)) {
    return std::make_unique<NextGateLookahead>(parts.backend, parts.gates, parts.moe,
                                               NextGateOptions{.depth = depth});
  }
  return fail(ErrorCode::kInvalidArgument,
              "look-ahead next_gate: the model's layers have no gates of their own");
}

MadeSource make_replay(const std::string& path, const LookaheadParts& parts) {
  PREGATE_ASSIGN(auto trace, read_trace(path));
  PREGATE_ASSIGN(auto replay, ReplayLookahead::create(std::move(trace), parts.moe));
  return replay;
}

}  // namespace

Status check_source(const std::string& source) {
  const bool replay = source.starts_with(kReplay) && source.size() > kReplay.size();
  if (replay || std::ranges::find(kNames, source) != kNames.end()) return {};
  return fail(ErrorCode::kInvalidArgument, "{}: expected {} or replay:FILE", source,
              fmt::join(kNames, ", "));
}

MadeSource make_lookahead(const LookaheadOptions& options, const LookaheadParts& parts) {
  const std::string& source = options.source;
  PREGATE_TRY(check_source(source));
  if (source == "none" || parts.moe.layers.empty()) return nullptr;
  if (source == "transitions") return std::make_unique<TransitionsLookahead>(parts.moe);
  if (source.starts_with(kReplay)) return make_replay(source.substr(kReplay.size()), parts);
  if (source == "pregate" || (source == "auto" && decides_ahead(parts))) return make_pregate(parts);
  return make_next_gate(parts, options.depth);
}

}  // namespace pregate::router
