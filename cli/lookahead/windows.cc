#include "cli/lookahead/windows.h"

#include <algorithm>

namespace pregate::cli {
namespace {

Result<Windows> read_file_windows(const TextModel& model, const std::filesystem::path& file,
                                  const TextOptions& options) {
  if (file.extension() == ".safetensors") {
    PREGATE_ASSIGN(const auto trace, router::read_trace(file));
    const size_t vocab_size = model.runtime->config().vocab_size;
    const auto unknown = [&](TokenId token) { return static_cast<size_t>(token) >= vocab_size; };
    if (std::ranges::any_of(trace.tokens, unknown)) {
      return fail(ErrorCode::kInvalidArgument, "{}: its text is not of this model's {} tokens",
                  file.string(), vocab_size);
    }
    return windows_of(trace, options.window_tokens);
  }
  PREGATE_ASSIGN(Text text, model.read(file, options));
  std::erase_if(text.windows, [&](const Window& w) { return w.size() <= options.window_tokens; });
  return std::move(text.windows);
}

/// A window's last token is not computed.
size_t blocks_of(const Window& window) {
  return (window.size() - 1 + compute::kKvBlockTokens - 1) / compute::kKvBlockTokens;
}

}  // namespace

Windows windows_of(const router::RoutingTrace& trace, size_t num_tokens) {
  Windows windows;
  for (size_t w = 0; w < trace.starts.size(); ++w) {
    const size_t first = trace.starts[w];
    const size_t end = w + 1 < trace.starts.size() ? trace.starts[w + 1] : trace.num_tokens();
    for (size_t begin = first + 1; begin + num_tokens <= end; begin += num_tokens) {
      Window& window = windows.emplace_back(Window{trace.tokens[first]});
      const auto from = trace.tokens.begin() + static_cast<ptrdiff_t>(begin);
      window.insert(window.end(), from, from + static_cast<ptrdiff_t>(num_tokens));
    }
  }
  return windows;
}

Result<Windows> read_windows(const TextModel& model, const BenchLookaheadOptions& options) {
  std::vector<Windows> files;
  size_t longest = 0;
  for (const auto& file : options.text.files) {
    PREGATE_ASSIGN(files.emplace_back(), read_file_windows(model, file, options.text));
    longest = std::max(longest, files.back().size());
  }
  Windows windows;
  for (size_t i = 0; i < longest; ++i) {
    for (const Windows& of_file : files) {
      if (i >= of_file.size()) continue;
      if (options.num_windows > 0 && windows.size() >= options.num_windows) return windows;
      windows.push_back(of_file[i]);
    }
  }
  if (!windows.empty()) return windows;
  return fail(ErrorCode::kInvalidArgument, "no text has a document of {} tokens (--window-tokens)",
              options.text.window_tokens);
}

Status check_room(const ModelRuntime& runtime, const Windows& windows, size_t batch) {
  if (batch * blocks_of(windows.front()) <= runtime.num_kv_blocks()) return {};
  return fail(ErrorCode::kInvalidArgument,
              "--batches {}: the KV cache has no room for so many windows of {} tokens", batch,
              windows.front().size() - 1);
}

Status compute_step(engine::Engine& engine, std::span<const Window> windows, size_t position,
                    size_t count, const engine::RowVisitor& visit) {
  const size_t blocks_each = blocks_of(windows.front());
  std::vector<std::vector<uint32_t>> blocks(windows.size());
  std::vector<engine::StepSequence> step;
  for (size_t w = 0; w < windows.size(); ++w) {
    for (size_t b = 0; b < blocks_each; ++b) {
      blocks[w].push_back(static_cast<uint32_t>(w * blocks_each + b));
    }
    step.push_back({.tokens = std::span(windows[w]).subspan(position, count),
                    .first_position = position,
                    .length_tokens = position + count,
                    .blocks = blocks[w],
                    .logits = visit ? engine::LogitRows::kLast : engine::LogitRows::kNone});
  }
  return engine.step_all(step, visit);
}

}  // namespace pregate::cli
