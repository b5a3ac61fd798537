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

Matrix<float> columns(const Matrix<float>& rows, size_t first, size_t count) {
  return {rows.data + first, rows.rows, count, rows.stride};
}

}  // namespace

LogitsVisitor each_row(RowVisitor visit) {
  return [visit = std::move(visit)](std::span<const LogitRow> rows) {
    for (const LogitRow& row : rows) visit(row.sequence, row.row, row.logits);
  };
}

Engine::Engine(EngineParts parts)
    : parts_(std::move(parts)),
      rotary_(parts_.config),
      max_unattended_rows_(parts_.experts.max_unattended_rows(parts_.router.unattended_top_k())),
      num_choosable_(parts_.config.vocab_size),
      storage_(parts_.backend) {}

void Engine::choose_among(size_t num_tokens) {
  PREGATE_CHECK(num_tokens > 0 && num_tokens <= parts_.config.vocab_size);
  num_choosable_ = num_tokens;
}

Engine::Storage::Storage(compute::Backend& backend)
    : hidden(backend),
      normed(backend),
      qkv(backend),
      context(backend),
      out(backend),
      shared(backend),
      gate(backend),
      cos(backend),
      sin(backend),
      encoded(backend),
      chosen(backend),
      logits(backend),
      host_chosen(backend),
      host_rows(backend),
      host_cos(backend),
      host_sin(backend),
      host_logits(backend) {}

Result<std::vector<SetAside>> Engine::step(std::span<const StepSequence> sequences,
                                           const LogitsVisitor& visit) {
  PREGATE_TRY(begin_step(sequences));
  PREGATE_TRY(embed());
  if (is_unattended_) {
    run_unattended();
  } else {
    PREGATE_TRY(run_layers(sequences));
  }
  PREGATE_TRY(visit_logits(sequences, visit));
  if (is_unattended_) report_chosen();
  std::ranges::sort(set_aside_, {}, &SetAside::sequence);
  return std::move(set_aside_);
}

Status Engine::run_layers(std::span<const StepSequence> sequences) {
  for (uint32_t layer = 0; layer < parts_.config.num_layers() && !present_.empty(); ++layer) {
    attention(LayerIdx(layer));
    PREGATE_TRY(feed_forward(LayerIdx(layer)));
    if (!homeless_.empty()) {
      PREGATE_TRY(set_aside(sequences, LayerIdx(layer)));
    }
  }
  return {};
}

Status Engine::step_all(std::span<const StepSequence> sequences, RowVisitor visit_row) {
  PREGATE_ASSIGN(const auto set_aside, step(sequences, each_row(std::move(visit_row))));
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
  is_unattended_ = can_run_unattended();
  if (is_unattended_) {
    const size_t num_layers = parts_.config.num_layers();
    PREGATE_ASSIGN(chosen_memory_, storage_.chosen.take(num_layers * chosen_bytes()));
  }
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
  PREGATE_TRY(take_rows());
  PREGATE_TRY(place_rotary());
  return parts_.router.begin_step(step_tokens());
}

Status Engine::take_rows() {
  const auto& config = parts_.config;
  const size_t n = tokens_.size(), q_cols = config.num_heads * config.head_dim;
  const size_t kv_cols = config.num_kv_heads * config.head_dim;
  PREGATE_ASSIGN(hidden_, storage_.hidden.take_rows(n, config.hidden_size));
  PREGATE_ASSIGN(normed_, storage_.normed.take_rows(n, config.hidden_size));
  PREGATE_ASSIGN(out_, storage_.out.take_rows(n, config.hidden_size));
  PREGATE_ASSIGN(shared_, storage_.shared.take_rows(n, config.hidden_size));
  PREGATE_ASSIGN(gate_, storage_.gate.take_rows(n, 1));
  PREGATE_ASSIGN(context_, storage_.context.take_rows(n, q_cols));
  PREGATE_ASSIGN(const Rows qkv, storage_.qkv.take_rows(n, q_cols + 2 * kv_cols));
  q_ = columns(qkv, 0, q_cols);
  k_ = columns(qkv, q_cols, kv_cols);
  v_ = columns(qkv, q_cols + kv_cols, kv_cols);
  const size_t widest = std::max(config.hidden_size, q_cols);
  const size_t encoded_bytes = n * compute::encoded_row_bytes(parts_.format, widest);
  PREGATE_ASSIGN(encoded_memory_, storage_.encoded.take(encoded_bytes));
  return {};
}

Status Engine::place_rotary() {
  const size_t n = positions_.size();
  if (n == 0) return {};
  PREGATE_ASSIGN(cos_, storage_.cos.take_rows(n, rotary_.num_frequencies()));
  PREGATE_ASSIGN(sin_, storage_.sin.take_rows(n, rotary_.num_frequencies()));
  const Rows cos = storage_.host_cos.begin(cos_), sin = storage_.host_sin.begin(sin_);
  for_rows([&](size_t first, size_t count) {
    rotary_.rows(std::span(positions_).subspan(first, count),
                 std::span(lengths_).subspan(first, count), cos.slice_rows(first, count),
                 sin.slice_rows(first, count));
  });
  storage_.host_cos.send(cos_);
  storage_.host_sin.send(sin_);
  return {};
}

// What the host does to each row of the step, by all threads: pieces of all rows. Few rows are done
// before the threads are awake.
void Engine::for_rows(const std::function<void(size_t first, size_t count)>& body) {
  constexpr size_t kPiece = 64;
  const size_t n = tokens_.size();
  parts_.threads.parallel_for((n + kPiece - 1) / kPiece, [&](size_t piece, size_t) {
    const size_t first = piece * kPiece;
    body(first, std::min(kPiece, n - first));
  });
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
  const Rows rows = storage_.host_rows.begin(hidden_);
  std::vector<Status> read(rows.rows);
  for_rows([&](size_t first, size_t count) {
    for (size_t r = first; r < first + count; ++r) {
      const auto token = static_cast<size_t>(tokens_[r]);
      read[r] = compute::read_row(parts_.weights.embedding, token, rows.row(r));
    }
  });
  for (Status& one : read) PREGATE_TRY(one);
  storage_.host_rows.send(hidden_);
  return {};
}

compute::EncodedRows Engine::encode(Rows rows) {
  parts_.backend.encode(rows, parts_.format, encoded_memory_);
  return {parts_.format, rows.rows, rows.cols, encoded_memory_};
}

// x += addend, if that has rows; then y, which may be x, and that encoded.
compute::EncodedRows Engine::norm(Rows x, Rows addend, const compute::RowVector& weight, Rows y) {
  const auto epsilon = static_cast<float>(parts_.config.rms_norm_eps);
  parts_.backend.norm_encode(x, addend, weight.view(), epsilon, y, parts_.format, encoded_memory_);
  return {parts_.format, y.rows, y.cols, encoded_memory_};
}

// To out_, which the next norm adds to hidden_.
void Engine::attention(LayerIdx layer) {
  const auto& config = parts_.config;
  const auto& weights = parts_.weights.layers[layer.value];
  compute::Backend& backend = parts_.backend;

  const Rows left = layer.value == 0 ? Rows() : out_;  // by the layer before
  encoded_ = norm(hidden_, left, weights.input_norm, normed_);
  project_heads(layer);
  const compute::AttentionOptions options{
      .layer = layer.value,
      .num_heads = config.num_heads,
      .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)),
      .window = config.layers[layer.value].window};
  backend.attention(*parts_.kv, options, placed_, q_, context_);
  backend.linear(encode(context_), *weights.o, weights.o_bias.view(), out_);
}

// Queries; keys and values go to their places.
void Engine::project_heads(LayerIdx layer) {
  const auto& weights = parts_.weights.layers[layer.value];
  const compute::LinearMap maps[] = {{weights.q.get(), weights.q_bias.view(), q_},
                                     {weights.k.get(), weights.k_bias.view(), k_},
                                     {weights.v.get(), weights.v_bias.view(), v_}};
  parts_.backend.linear_all(encoded_, maps);
  parts_.backend.place_heads(*parts_.kv, head_options(layer), placed_, q_, k_, v_);
}

compute::HeadOptions Engine::head_options(LayerIdx layer) const {
  const auto& config = parts_.config;
  const auto& weights = parts_.weights.layers[layer.value];
  compute::HeadOptions options{.layer = layer.value,
                               .q_norm = weights.q_norm.view(),
                               .k_norm = weights.k_norm.view(),
                               .epsilon = static_cast<float>(config.rms_norm_eps),
                               .cos = cos_,
                               .sin = sin_};
  if (config.clip_qkv) options.limit = static_cast<float>(*config.clip_qkv);
  return options;
}

// To out_, as attention() does.
Status Engine::feed_forward(LayerIdx layer) {
  const auto& weights = parts_.weights.layers[layer.value];
  encoded_ = norm(hidden_, out_, weights.post_attention_norm, normed_);
  if (weights.dense) {
    if (mlp_observer_) mlp_observer_(layer, storage_.host_rows.read(normed_));
    parts_.backend.mlp(encoded_, *weights.dense, out_);
  } else if (is_unattended_) {
    mixture_unattended(layer);
  } else {
    return mixture_of_experts(layer);
  }
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
  if (weights.shared) parts_.backend.mlp(encoded_, *weights.shared, shared_);
  PREGATE_ASSIGN(homeless_, parts_.experts.combine(ticket, out_));
  if (weights.shared) add_shared_expert(weights);
  return {};
}

bool Engine::can_run_unattended() const {
  const size_t n = tokens_.size();
  return n > 0 && n <= max_unattended_rows_ && parts_.lookahead == nullptr && !mlp_observer_;
}

void Engine::run_unattended() {
  const uint64_t key[] = {reinterpret_cast<uintptr_t>(this), tokens_.size()};
  parts_.backend.unattended()->repeat(key, *parts_.kv, placed_, [this] {
    for (uint32_t layer = 0; layer < parts_.config.num_layers(); ++layer) {
      attention(LayerIdx(layer));
      PREGATE_CHECK(feed_forward(LayerIdx(layer)).has_value());
    }
  });
  if (!observer_) return;
  const size_t bytes = parts_.config.num_layers() * chosen_bytes();
  host_chosen_ = storage_.host_chosen.take(bytes);
  parts_.backend.unattended()->begin_read(host_chosen_, chosen_memory_, bytes);
}

void Engine::mixture_unattended(LayerIdx layer) {
  const compute::TopK chosen = chosen_in(layer, chosen_memory_);
  parts_.router.route_unattended(layer, normed_, chosen);
  parts_.experts.run_unattended(layer, encoded_, chosen, out_);
  const auto& weights = parts_.weights.layers[layer.value];
  if (!weights.shared) return;
  parts_.backend.mlp(encoded_, *weights.shared, shared_);
  add_shared_expert(weights);
}

/// Of a layer.
size_t Engine::chosen_bytes() const {
  return tokens_.size() * parts_.router.unattended_top_k() * (sizeof(uint32_t) + sizeof(float));
}

compute::TopK Engine::chosen_in(LayerIdx layer, std::byte* chosen) const {
  const size_t count = tokens_.size() * parts_.router.unattended_top_k();
  auto* const ids = reinterpret_cast<uint32_t*>(chosen + layer.value * chosen_bytes());
  return {{ids, count}, {reinterpret_cast<float*>(ids + count), count}};
}

// What the observer of each layer would have been told in it.
void Engine::report_chosen() {
  if (!observer_) return;
  parts_.backend.wait();
  decisions_.top_k = parts_.router.unattended_top_k();
  for (uint32_t layer = 0; layer < parts_.config.num_layers(); ++layer) {
    if (!parts_.config.layers[layer].is_moe) continue;
    const auto [ids, gates] = chosen_in(LayerIdx(layer), host_chosen_);
    decisions_.expert_ids.clear();
    for (const uint32_t id : ids) decisions_.expert_ids.emplace_back(id);
    decisions_.gates.assign(gates.begin(), gates.end());
    observer_(LayerIdx(layer), decisions_);
  }
}

// Leaves the sequences of homeless rows out; the rows of the others close up.
Status Engine::set_aside(std::span<const StepSequence> sequences, LayerIdx layer) {
  std::vector<size_t> kept;
  std::vector<uint32_t> kept_rows;
  for (size_t i = 0; i < present_.size(); ++i) {
    if (auto missing = missing_experts(placed_[i]); !missing.empty()) {
      set_aside_.push_back({present_[i], {layer, std::move(missing)}});
      continue;
    }
    for (size_t row = 0; row < placed_[i].num_rows; ++row) {
      kept_rows.push_back(static_cast<uint32_t>(placed_[i].first_row + row));
    }
    kept.push_back(present_[i]);
  }
  parts_.backend.take_rows(hidden_, kept_rows, normed_.slice_rows(0, kept_rows.size()));
  parts_.backend.take_rows(out_, kept_rows, shared_.slice_rows(0, kept_rows.size()));
  std::swap(storage_.hidden, storage_.normed);
  std::swap(storage_.out, storage_.shared);
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
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  return missing;
}

// out += sigmoid(shared_gate(x)) * shared(x), or without the gate where the family has none.
void Engine::add_shared_expert(const model::LayerWeights& weights) {
  compute::Backend& backend = parts_.backend;
  if (!weights.shared_gate) return backend.add(shared_, out_);
  backend.linear(compute::f32_rows(normed_), *weights.shared_gate, {}, gate_);
  backend.add_gated(shared_, gate_, out_);
}

// Rows with logits lie together, before those with a token alone, and so come to the host at once.
Status Engine::visit_logits(std::span<const StepSequence> sequences, const LogitsVisitor& visit) {
  std::vector<LogitRow> wanted;
  std::vector<uint32_t> hidden_rows;
  const auto add_wanted = [&](bool token_alone) {
    for (size_t i = 0; i < present_.size(); ++i) {
      const LogitRows asked = sequences[present_[i]].logits;
      if (asked == LogitRows::kNone) continue;
      if ((asked == LogitRows::kTokenOfLast) != token_alone) continue;
      const size_t count = placed_[i].num_rows;
      for (size_t row = asked == LogitRows::kAll ? 0 : count - 1; row < count; ++row) {
        wanted.push_back({.sequence = present_[i], .row = row});
        hidden_rows.push_back(static_cast<uint32_t>(placed_[i].first_row + row));
      }
    }
  };
  add_wanted(false);
  const size_t num_with_logits = wanted.size();
  add_wanted(true);
  if (!wanted.empty()) parts_.backend.add(out_, hidden_);  // as no norm does after the last layer
  for (size_t first = 0; first < wanted.size(); first += kLogitRowsAtOnce) {
    const size_t count = std::min(kLogitRowsAtOnce, wanted.size() - first);
    const size_t num_read = std::clamp(num_with_logits, first, first + count) - first;
    const std::span<LogitRow> rows = std::span(wanted).subspan(first, count);
    PREGATE_ASSIGN(const Rows logits, make_logits(std::span(hidden_rows).subspan(first, count)));
    read_logits(logits.slice_rows(0, num_read), rows.first(num_read));
    draw_tokens(logits.slice_rows(num_read, count - num_read), sequences, rows.subspan(num_read));
    visit(rows);
  }
  return {};
}

// Of these rows of hidden_.
Result<Engine::Rows> Engine::make_logits(std::span<const uint32_t> hidden_rows) {
  const auto& config = parts_.config;
  PREGATE_ASSIGN(const Rows logits,
                 storage_.logits.take_rows(hidden_rows.size(), config.vocab_size));
  const Rows rows = normed_.slice_rows(0, hidden_rows.size());
  parts_.backend.take_rows(hidden_, hidden_rows, rows);
  parts_.backend.linear(norm(rows, {}, parts_.weights.final_norm, rows), *parts_.weights.lm_head,
                        {}, logits);
  return logits;
}

void Engine::read_logits(Rows logits, std::span<LogitRow> rows) {
  if (rows.empty()) return;
  const Matrix<const float> read = storage_.host_logits.read(logits);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].logits = read.row(i);
}

void Engine::draw_tokens(Rows logits, std::span<const StepSequence> sequences,
                         std::span<LogitRow> rows) {
  if (rows.empty()) return;
  std::vector<compute::Draw> draws;
  for (const LogitRow& row : rows) draws.push_back(sequences[row.sequence].draw);
  std::vector<uint32_t> tokens(rows.size());
  parts_.backend.draw(columns(logits, 0, num_choosable_), draws, tokens);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].token = static_cast<TokenId>(tokens[i]);
}

}  // namespace pregate::engine
