// What a router decided for every token of a text, kept as a file: `pregate trace` writes it, and
// studies of caches, batches and placements read it.
//
// The file is safetensors, so that other tools can read it too. T tokens in W windows, each
// computed from an empty context; L layers with experts, E experts in each, K of them per token:
//   tokens         I32 [T]        ids, window after window
//   starts         I32 [W]        index in tokens of each window's first token
//   layers         I32 [L]        the model's number of each layer
//   expert_tokens  I32 [L, E]     how many tokens each expert got
//   experts        U16 [T, L, K]  in order of descending gate
//   gates          F16 [T, L, K]  what the experts' outputs are multiplied with
// Its metadata has "format": "pregate-trace", "model" and "text".
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "router/router.h"

namespace pregate::router {

struct RoutingTrace {
  std::string model, text;  ///< Names, for people; not read back.
  size_t num_experts = 0;
  size_t top_k = 0;
  std::vector<uint32_t> layers;   // [L]
  std::vector<TokenId> tokens;    // [T]
  std::vector<uint32_t> starts;   // [W], ascending, the first is 0
  std::vector<uint16_t> experts;  // [T, L, K]
  std::vector<float> gates;       // [T, L, K]

  size_t num_tokens() const { return tokens.size(); }
  size_t num_layers() const { return layers.size(); }
  /// The experts of a token in the `layer`-th layer that has any.
  std::span<const uint16_t> experts_of(size_t token, size_t layer) const {
    return std::span(experts).subspan((token * num_layers() + layer) * top_k, top_k);
  }
};

/// Collects the decisions of one window, layer by layer; one thread.
class TraceRecorder {
 public:
  TraceRecorder(std::vector<uint32_t> layers, size_t num_experts, size_t top_k);

  /// All decisions of the layers for `tokens`, which form one window, come until the next call.
  void begin_window(std::span<const TokenId> tokens);
  /// Decisions for the window's rows, in order of position.
  void record(LayerIdx layer, const Decisions& decisions);

  RoutingTrace& trace() { return trace_; }

 private:
  RoutingTrace trace_;
  std::map<uint32_t, size_t> index_of_layer_;
};

/// Tokens that each expert got: [L, E], row-major.
std::vector<uint32_t> tokens_per_expert(const RoutingTrace& trace);

/// Errors name the path.
Status write_trace(const std::filesystem::path& path, const RoutingTrace& trace);
/// Every index in what it returns is in range. Errors name the file and the tensor: kDataLoss.
Result<RoutingTrace> read_trace(const std::filesystem::path& path);

}  // namespace pregate::router
