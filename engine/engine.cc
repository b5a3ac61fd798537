#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "compute/f32_rows.h"
#include "compute/source.h"

namespace pregate::engine {
namespace {

using compute::Matrix;

// Logits are made for so many rows at a time: prompt logprobs of a long prompt would otherwise need
// rows x vocabulary floats at once.
constexpr size_t kLogitRowsAtOnce = 32;

Matrix<float> resized(std::vector<float>& storage, size_t rows, size_t cols) {
  if (storage.size() < rows * cols) storage.resize(rows * cols);
  return {storage.data(), rows, cols};
}

void add(Matrix<float> y, Matrix<const float> x) {
  for (size_t i = 0; i < y.rows * y.cols; ++i) y.data[i] += x.data[i];
}

void clip(Matrix<float> x, float limit) {
  for (size_t i = 0; i < x.rows * x.cols; ++i) x.data[i] = std::clamp(x.data[i], -limit, limit);
}

}  // namespace

Engine::Engine(EngineParts parts) : parts_(std::move(parts)), rotary_(parts_.config) {}

Result<std::vector<SetAside>> Engine::step(std::span<const StepSequence> sequences,
                                           const LogitsVisitor& visit) {
  PREGATE_TRY(begin_step(sequences));
  PREGATE_TRY(embed());
  for (uint32_t layer = 0; layer < parts_.config.num_layers() && !present_.empty(); ++layer) {
    attention(LayerIdx(layer));
    PREGATE_TRY(feed_forward(LayerIdx(layer)));
    if (!homeless_.empty()) {
      PREGATE_TRY(set_aside(sequences, LayerIdx(layer)));
    }
  }
  visit_logits(sequences, visit);
  std::ranges::sort(set_aside_, {}, &SetAside::sequence);
  return std::move(set_aside_);
}

Status Engine::step_all(std::span<const StepSequence> sequences, const LogitsVisitor& visit) {
  PREGATE_ASSIGN(const auto set_aside, step(sequences, visit));
  if (set_aside.empty()) return {};
  return fail(parts_.experts.missing_error(set_aside.front().missing));
}

Status Engine::begin_step(std::span<const StepSequence> sequences) {
  ++num_steps_;
  homeless_.clear();
  set_aside_.clear();
  present_.resize(sequences.size());
  std::iota(present_.begin(), present_.end(), size_t{0});
  PREGATE_TRY(lay_out(sequences));
  look_ahead_from(LayerIdx(0));
  return {};
}

// A row for each token of the sequences that are present, one sequence after the other.
Status Engine::lay_out(std::span<const StepSequence> sequences) {
  tokens_.clear();
  positions_.clear();
  lengths_.clear();
  placed_.clear();
  for (const size_t s : present_) {
    const StepSequence& sequence = sequences[s];
    const size_t count = sequence.tokens.size();
    placed_.push_back({tokens_.size(), count, sequence.first_position, sequence.blocks});
    tokens_.insert(tokens_.end(), sequence.tokens.begin(), sequence.tokens.end());
    for (size_t i = 0; i < count; ++i) {
      positions_.push_back(static_cast<uint32_t>(sequence.first_position + i));
    }
    lengths_.insert(lengths_.end(), count, static_cast<uint32_t>(sequence.length_tokens));
  }
  const auto& config = parts_.config;
  const size_t n = tokens_.size();
  hidden_ = resized(storage_.hidden, n, config.hidden_size);
  normed_ = resized(storage_.normed, n, config.hidden_size);
  out_ = resized(storage_.out, n, config.hidden_size);
  shared_ = resized(storage_.shared, n, config.hidden_size);
  q_ = resized(storage_.q, n, config.num_heads * config.head_dim);
  context_ = resized(storage_.context, n, config.num_heads * config.head_dim);
  k_ = resized(storage_.k, n, config.num_kv_heads * config.head_dim);
  v_ = resized(storage_.v, n, config.num_kv_heads * config.head_dim);
  rotary_.rows(positions_, lengths_, cos_, sin_);
  return parts_.router.begin_step(step_tokens());
}

router::LayerTime Engine::time_of(LayerIdx layer) const {
  return num_steps_ * parts_.config.num_layers() + layer.value;
}

// Of the rows as they are now; `layer` is the next to be computed.
void Engine::look_ahead_from(LayerIdx layer) {
  if (parts_.lookahead == nullptr) return;
  plan_.clear();
  parts_.lookahead->begin_step(step_tokens(), time_of(layer), plan_);
  if (!plan_.empty()) parts_.experts.expect(plan_, time_of(layer));
}

void Engine::look_ahead_after(LayerIdx layer) {
  if (parts_.lookahead == nullptr) return;
  plan_.clear();
  parts_.lookahead->routed(layer, time_of(layer), normed_, decisions_, plan_);
  if (!plan_.empty()) parts_.experts.expect(plan_, time_of(layer));
}

Status Engine::embed() {
  for (size_t r = 0; r < tokens_.size(); ++r) {
    const auto token = static_cast<size_t>(tokens_[r]);
    PREGATE_TRY(compute::read_row(parts_.weights.embedding, token, hidden_.row(r)));
  }
  return {};
}

compute::EncodedRows Engine::encode(Rows rows) {
  const size_t bytes = rows.rows * compute::encoded_row_bytes(parts_.format, rows.cols);
  if (storage_.encoded.size() < bytes) storage_.encoded.resize(bytes);
  parts_.backend.encode(rows, parts_.format, storage_.encoded.data());
  return {parts_.format, rows.rows, rows.cols, storage_.encoded.data()};
}

void Engine::attention(LayerIdx layer) {
  const auto& config = parts_.config;
  const auto& weights = parts_.weights.layers[layer.value];
  compute::Backend& backend = parts_.backend;

  backend.rms_norm(hidden_, weights.input_norm, static_cast<float>(config.rms_norm_eps), normed_);
  encoded_ = encode(normed_);
  project_heads(weights);
  backend.store_kv(*parts_.kv, layer.value, placed_, k_, v_);
  const compute::AttentionOptions options{
      .layer = layer.value,
      .num_heads = config.num_heads,
      .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)),
      .window = config.layers[layer.value].window};
  backend.attention(*parts_.kv, options, placed_, q_, context_);
  backend.linear(encode(context_), *weights.o, weights.o_bias, out_);
  add(hidden_, out_);
}

// Queries, keys and values: biased, clipped, normed and rotated as the family asks, in this order.
void Engine::project_heads(const model::LayerWeights& weights) {
  const auto& config = parts_.config;
  compute::Backend& backend = parts_.backend;
  backend.linear(encoded_, *weights.q, weights.q_bias, q_);
  backend.linear(encoded_, *weights.k, weights.k_bias, k_);
  backend.linear(encoded_, *weights.v, weights.v_bias, v_);
  const auto epsilon = static_cast<float>(config.rms_norm_eps);
  if (!weights.q_norm.empty()) backend.rms_norm(q_, weights.q_norm, epsilon, q_);
  if (!weights.k_norm.empty()) backend.rms_norm(k_, weights.k_norm, epsilon, k_);
  if (config.clip_qkv) {
    for (const Rows& rows : {q_, k_, v_}) clip(rows, static_cast<float>(*config.clip_qkv));
  }
  const Matrix<const float> cos(cos_.data(), q_.rows, cos_.size() / q_.rows);
  const Matrix<const float> sin(sin_.data(), q_.rows, sin_.size() / q_.rows);
  backend.rotate(q_, config.head_dim, cos, sin);
  backend.rotate(k_, config.head_dim, cos, sin);
}

Status Engine::feed_forward(LayerIdx layer) {
  const auto& weights = parts_.weights.layers[layer.value];
  parts_.backend.rms_norm(hidden_, weights.post_attention_norm,
                          static_cast<float>(parts_.config.rms_norm_eps), normed_);
  encoded_ = encode(normed_);
  if (weights.dense) {
    if (mlp_observer_) mlp_observer_(layer, normed_);
    run_on_all_rows(*weights.dense, out_);
  } else {
    PREGATE_TRY(mixture_of_experts(layer));
  }
  add(hidden_, out_);
  return {};
}

Status Engine::mixture_of_experts(LayerIdx layer) {
  parts_.router.route(layer, normed_, decisions_);
  if (observer_) observer_(layer, decisions_);
  const ExpertBatch batch{.step = num_steps_,
                          .layer = layer,
                          .rows = encoded_,
                          .top_k = decisions_.top_k,
                          .expert_ids = decisions_.expert_ids,
                          .gates = decisions_.gates};
  PREGATE_ASSIGN(const DispatchTicket ticket, parts_.experts.dispatch(batch));
  look_ahead_after(layer);  // after what is needed now, and while that is computed
  const auto& weights = parts_.weights.layers[layer.value];
  if (weights.shared) run_on_all_rows(*weights.shared, shared_);
  PREGATE_ASSIGN(homeless_, parts_.experts.combine(ticket, out_));
  if (weights.shared) add_shared_expert(weights);
  return {};
}

// Leaves the sequences of homeless rows out; the rows of the others close up.
Status Engine::set_aside(std::span<const StepSequence> sequences, LayerIdx layer) {
  std::vector<size_t> kept;
  size_t num_rows = 0;
  for (size_t i = 0; i < present_.size(); ++i) {
    if (auto missing = missing_experts(placed_[i]); !missing.empty()) {
      set_aside_.push_back({present_[i], {layer, std::move(missing)}});
      continue;
    }
    const Rows rows = hidden_.slice_rows(placed_[i].first_row, placed_[i].num_rows);
    const Rows to = hidden_.slice_rows(num_rows, rows.rows);
    if (to.data != rows.data) std::copy_n(rows.data, rows.rows * rows.cols, to.data);
    num_rows += rows.rows;
    kept.push_back(present_[i]);
  }
  homeless_.clear();
  present_ = std::move(kept);
  PREGATE_TRY(lay_out(sequences));
  const LayerIdx next(layer.value + 1);
  if (!present_.empty() && next.value < parts_.config.num_layers()) look_ahead_from(next);
  return {};
}

// Of these rows, each once.
std::vector<ExpertId> Engine::missing_experts(const compute::SequenceRows& rows) const {
  std::vector<ExpertId> missing;
  for (const auto& [row, expert] : homeless_) {
    if (row - rows.first_row < rows.num_rows) missing.push_back(expert);
  }
  std::ranges::sort(missing);
  const auto doubles = std::ranges::unique(missing);
  missing.erase(doubles.begin(), doubles.end());
  return missing;
}

// out += sigmoid(shared_gate(x)) * shared(x), or without the gate where the family has none.
void Engine::add_shared_expert(const model::LayerWeights& weights) {
  if (weights.shared_gate) {
    const Rows gate = resized(storage_.gate, normed_.rows, 1);
    parts_.backend.linear(compute::f32_rows(normed_), *weights.shared_gate, {}, gate);
    for (size_t r = 0; r < gate.rows; ++r) {
      const float factor = 1.0f / (1.0f + std::exp(-gate.data[r]));
      for (float& value : shared_.row(r)) value *= factor;
    }
  }
  add(out_, shared_);
}

void Engine::run_on_all_rows(const compute::PackedExpert& expert, Rows out) {
  std::vector<uint32_t> rows(out.rows);
  std::iota(rows.begin(), rows.end(), 0);
  const std::vector<float> ones(out.rows, 1.0f);
  const compute::ExpertTask task{&expert, rows, rows, ones};
  parts_.backend.experts(encoded_, {&task, 1}, out);
}

void Engine::visit_logits(std::span<const StepSequence> sequences, const LogitsVisitor& visit) {
  struct Wanted {
    size_t place, row;  // in present_ and placed_; of the sequence
  };
  std::vector<Wanted> wanted;
  for (size_t i = 0; i < present_.size(); ++i) {
    const StepSequence& sequence = sequences[present_[i]];
    const size_t count = sequence.tokens.size();
    if (sequence.logits == LogitRows::kLast) wanted.push_back({i, count - 1});
    if (sequence.logits != LogitRows::kAll) continue;
    for (size_t row = 0; row < count; ++row) wanted.push_back({i, row});
  }
  for (size_t first = 0; first < wanted.size(); first += kLogitRowsAtOnce) {
    const size_t count = std::min(kLogitRowsAtOnce, wanted.size() - first);
    const Rows rows = normed_.slice_rows(0, count);
    for (size_t i = 0; i < count; ++i) {
      const auto& [place, row] = wanted[first + i];
      std::ranges::copy(hidden_.row(placed_[place].first_row + row), rows.row(i).begin());
    }
    parts_.backend.rms_norm(rows, parts_.weights.final_norm,
                            static_cast<float>(parts_.config.rms_norm_eps), rows);
    const Rows logits = resized(storage_.logits, count, parts_.config.vocab_size);
    parts_.backend.linear(encode(rows), *parts_.weights.lm_head, {}, logits);
    for (size_t i = 0; i < count; ++i) {
      visit(present_[wanted[first + i].place], wanted[first + i].row, logits.row(i));
    }
  }
}

}  // namespace pregate::engine
