// Windows of texts, several of which are computed at once: their first tokens in one step, the
// others one by one, as if they had been sampled.
#pragma once

#include "cli/lookahead/tables.h"
#include "router/trace.h"

namespace pregate::cli {

using Window = std::vector<TokenId>;
using Windows = std::vector<Window>;

/// A trace holds the tokens of its text, in windows with a start token each, which are cut like
/// documents.
Windows windows_of(const router::RoutingTrace& trace, size_t num_tokens);

/// Of all files in turn, only whole ones, and no more than options.num_windows.
Result<Windows> read_windows(const TextModel& model, const BenchLookaheadOptions& options);

/// Error: kInvalidArgument, naming --batches, if the KV cache has no room for `batch` of them.
Status check_room(const ModelRuntime& runtime, const Windows& windows, size_t batch);

/// One step: `count` tokens of each window, from `position` on. A window's last token is never
/// computed. `visit` is called with the logits of the last one of each.
Status compute_step(engine::Engine& engine, std::span<const Window> windows, size_t position,
                    size_t count, const engine::RowVisitor& visit = {});

}  // namespace pregate::cli
