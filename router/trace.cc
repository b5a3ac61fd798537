#include "router/trace.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "compute/number.h"
#include "model/checkpoint/safetensors.h"
#include "model/checkpoint/safetensors_writer.h"

namespace pregate::router {
namespace {

template <typename T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <typename To, typename From>
std::vector<To> converted(const std::vector<From>& values, To (*convert)(From)) {
  std::vector<To> result(values.size());
  std::ranges::transform(values, result.begin(), convert);
  return result;
}

/// Takes tensors of a trace file by name, each checked for its type and shape.
class TraceReader {
 public:
  explicit TraceReader(const model::TensorFile& file) : file_(file) {}

  Result<std::vector<size_t>> shape_of(std::string_view name, size_t num_dimensions) const {
    const auto found = file_.tensors().find(name);
    if (found != file_.tensors().end() && found->second.shape.size() == num_dimensions) {
      return found->second.shape;
    }
    return bad(name, fmt::format("expected a tensor of {} dimensions", num_dimensions));
  }

  template <typename T>
  Result<std::vector<T>> read(std::string_view name, std::string_view dtype,
                              const std::vector<size_t>& shape) const {
    const auto found = file_.tensors().find(name);
    if (found == file_.tensors().end() || found->second.dtype != dtype ||
        found->second.shape != shape) {
      return bad(name, fmt::format("expected {} [{}]", dtype, fmt::join(shape, ", ")));
    }
    const auto bytes = file_.data(found->second);
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  tl::unexpected<Error> bad(std::string_view name, std::string_view what) const {
    return fail(ErrorCode::kDataLoss, "{}: {}: {}", file_.path().string(), name, what);
  }

 private:
  const model::TensorFile& file_;
};

Status check_indices(const TraceReader& reader, const RoutingTrace& trace) {
  const auto out_of_range = [&](uint16_t expert) { return expert >= trace.num_experts; };
  if (std::ranges::any_of(trace.experts, out_of_range)) {
    return reader.bad("experts", fmt::format("expected ids below {}", trace.num_experts));
  }
  const bool ascending =
      std::ranges::adjacent_find(trace.starts, std::ranges::greater_equal()) == trace.starts.end();
  const bool covering = trace.num_tokens() == 0
                            ? trace.starts.empty()
                            : !trace.starts.empty() && trace.starts.front() == 0 &&
                                  trace.starts.back() < trace.num_tokens();
  if (!ascending || !covering) {
    return reader.bad("starts", "expected ascending indices of tokens, the first 0");
  }
  return {};
}

}  // namespace

TraceRecorder::TraceRecorder(std::vector<uint32_t> layers, size_t num_experts, size_t top_k) {
  PREGATE_CHECK(num_experts <= size_t{1} << 16);
  for (size_t i = 0; i < layers.size(); ++i) index_of_layer_[layers[i]] = i;
  trace_.layers = std::move(layers);
  trace_.num_experts = num_experts;
  trace_.top_k = top_k;
}

void TraceRecorder::begin_window(std::span<const TokenId> tokens) {
  trace_.starts.push_back(static_cast<uint32_t>(trace_.num_tokens()));
  trace_.tokens.insert(trace_.tokens.end(), tokens.begin(), tokens.end());
  const size_t num_entries = trace_.num_tokens() * trace_.num_layers() * trace_.top_k;
  trace_.experts.resize(num_entries);
  trace_.gates.resize(num_entries);
}

void TraceRecorder::record(LayerIdx layer, const Decisions& decisions) {
  const size_t index = index_of_layer_.at(layer.value);
  const size_t begin = trace_.starts.back();
  const size_t top_k = trace_.top_k;
  PREGATE_CHECK(decisions.expert_ids.size() == (trace_.num_tokens() - begin) * top_k);
  for (size_t i = 0; i < decisions.expert_ids.size(); ++i) {
    const size_t token = begin + i / top_k;
    const size_t entry = (token * trace_.num_layers() + index) * top_k + i % top_k;
    trace_.experts[entry] = static_cast<uint16_t>(decisions.expert_ids[i].value);
    trace_.gates[entry] = decisions.gates[i];
  }
}

std::vector<uint32_t> tokens_per_expert(const RoutingTrace& trace) {
  std::vector<uint32_t> counts(trace.num_layers() * trace.num_experts);
  for (size_t token = 0; token < trace.num_tokens(); ++token) {
    for (size_t layer = 0; layer < trace.num_layers(); ++layer) {
      for (const uint16_t expert : trace.experts_of(token, layer)) {
        ++counts[layer * trace.num_experts + expert];
      }
    }
  }
  return counts;
}

Status write_trace(const std::filesystem::path& path, const RoutingTrace& trace) {
  const std::vector<uint32_t> counts = tokens_per_expert(trace);
  const std::vector<uint16_t> gates = converted<uint16_t, float>(trace.gates, compute::f32_to_f16);
  const std::vector<size_t> per_token{trace.num_tokens(), trace.num_layers(), trace.top_k};
  const std::vector<model::SafetensorsTensor> tensors{
      {"tokens", "I32", {trace.num_tokens()}, bytes_of(trace.tokens)},
      {"starts", "I32", {trace.starts.size()}, bytes_of(trace.starts)},
      {"layers", "I32", {trace.num_layers()}, bytes_of(trace.layers)},
      {"expert_tokens", "I32", {trace.num_layers(), trace.num_experts}, bytes_of(counts)},
      {"experts", "U16", per_token, bytes_of(trace.experts)},
      {"gates", "F16", per_token, bytes_of(gates)}};
  return model::write_safetensors(
      path, tensors, {{"format", "pregate-trace"}, {"model", trace.model}, {"text", trace.text}});
}

Result<RoutingTrace> read_trace(const std::filesystem::path& path) {
  PREGATE_ASSIGN(const auto file, model::open_safetensors(path));
  const TraceReader reader(file);
  PREGATE_ASSIGN(const auto shape, reader.shape_of("experts", 3));
  PREGATE_ASSIGN(const auto loads_shape, reader.shape_of("expert_tokens", 2));
  PREGATE_ASSIGN(const auto starts_shape, reader.shape_of("starts", 1));
  RoutingTrace trace{
      .text = path.stem().string(), .num_experts = loads_shape[1], .top_k = shape[2]};
  PREGATE_ASSIGN(trace.layers, reader.read<uint32_t>("layers", "I32", {shape[1]}));
  PREGATE_ASSIGN(trace.tokens, reader.read<TokenId>("tokens", "I32", {shape[0]}));
  PREGATE_ASSIGN(trace.starts, reader.read<uint32_t>("starts", "I32", starts_shape));
  PREGATE_ASSIGN(trace.experts, reader.read<uint16_t>("experts", "U16", shape));
  PREGATE_ASSIGN(const auto gates, reader.read<uint16_t>("gates", "F16", shape));
  trace.gates = converted<float, uint16_t>(gates, compute::f16_to_f32);
  PREGATE_TRY(check_indices(reader, trace));
  return trace;
}

}  // namespace pregate::router
