#include "router/lookahead/transitions.h"

#include <algorithm>

namespace pregate::router {
namespace {

std::span<const ExpertId> row_of(std::span<const ExpertId> experts, size_t top_k, size_t row) {
  return experts.subspan(row * top_k, top_k);
}

}  // namespace

TransitionTable::TransitionTable(size_t num_experts, size_t memory_rows)
    : num_experts_(num_experts),
      memory_rows_(memory_rows),
      uses_(num_experts),
      counts_(num_experts * num_experts) {}

void TransitionTable::learn(std::span<const ExpertId> from, std::span<const ExpertId> to) {
  for (const ExpertId i : from) {
    const auto counts = std::span(counts_).subspan(i.value * num_experts_, num_experts_);
    if (uses_[i.value] >= memory_rows_) {
      uses_[i.value] /= 2;
      for (uint32_t& count : counts) count /= 2;
    }
    ++uses_[i.value];
    for (const ExpertId j : to) ++counts[j.value];
  }
}

void TransitionTable::likely_after(std::span<const ExpertId> from, std::span<float> likely) const {
  std::ranges::fill(likely, 0.0f);
  for (const ExpertId i : from) {
    if (uses_[i.value] == 0) continue;
    const float share = 1.0f / static_cast<float>(uses_[i.value] * from.size());
    const auto counts = std::span(counts_).subspan(i.value * num_experts_, num_experts_);
    for (size_t j = 0; j < num_experts_; ++j) likely[j] += share * static_cast<float>(counts[j]);
  }
}

TransitionsLookahead::TransitionsLookahead(MoeLayers moe, TransitionsOptions options)
    : moe_(std::move(moe)),
      options_(options),
      tables_(moe_.size(), TransitionTable(moe_.num_experts, options.memory_rows)),
      needs_(moe_.num_experts, moe_.top_k),
      likely_(moe_.num_experts) {}

// Which rows are left is not said: what earlier layers decided for them is given up.
void TransitionsLookahead::begin_step(const StepTokens& step, LayerTime /*now*/, Plan& /*plan*/) {
  sequences_.clear();
  first_.clear();
  previous_.clear();
  previous_index_.reset();
  for (const compute::SequenceRows& rows : step.sequences) {
    Sequence& sequence = sequences_.emplace_back(Sequence{rows, {}});
    if (const auto* before = memory_.recall(rows)) sequence.before = *before;
  }
}

void TransitionsLookahead::routed(LayerIdx layer, LayerTime now,
                                  compute::Matrix<const float> /*rows*/, const Decisions& decisions,
                                  Plan& plan) {
  const size_t index = moe_.index_of(layer);
  learn_layer(index, decisions);
  if (index == 0) first_ = decisions.expert_ids;
  if (index + 1 < moe_.size()) {
    const LayerTime when = now + (moe_.layers[index + 1].value - layer.value);
    guess_layer(index, when, decisions, plan);
  } else {
    learn_tokens(decisions);
    guess_tokens(moe_.time_of(moe_.step_of(now) + 1, moe_.layers.front()), decisions, plan);
  }
  previous_ = decisions.expert_ids;
  previous_index_ = index;
}

void TransitionsLookahead::learn_layer(size_t index, const Decisions& decisions) {
  if (!previous_index_ || *previous_index_ + 1 != index) return;
  const size_t top_k = decisions.top_k;
  for (size_t row = 0; row * top_k < decisions.expert_ids.size(); ++row) {
    tables_[index - 1].learn(row_of(previous_, top_k, row),
                             row_of(decisions.expert_ids, top_k, row));
  }
}

// `decisions` are the last layer's.
void TransitionsLookahead::learn_tokens(const Decisions& decisions) {
  const size_t top_k = decisions.top_k;
  for (const Sequence& sequence : sequences_) {
    const auto& [first_row, num_rows, first_position, blocks] = sequence.rows;
    const auto last_layer = [&](size_t row) { return row_of(decisions.expert_ids, top_k, row); };
    const auto last = last_layer(first_row + num_rows - 1);
    memory_.remember(sequence.rows, {last.begin(), last.end()});
    if (first_.empty()) continue;
    if (!sequence.before.empty()) {
      tables_.back().learn(sequence.before, row_of(first_, top_k, first_row));
    }
    for (size_t row = first_row + 1; row < first_row + num_rows; ++row) {
      tables_.back().learn(last_layer(row - 1), row_of(first_, top_k, row));
    }
  }
}

void TransitionsLookahead::guess_layer(size_t index, LayerTime when, const Decisions& decisions,
                                       Plan& plan) {
  needs_.clear();
  for (size_t row = 0; row * decisions.top_k < decisions.expert_ids.size(); ++row) {
    add_row(tables_[index], row_of(decisions.expert_ids, decisions.top_k, row));
  }
  append_guesses(needs_.best(options_.max_guesses), moe_.layers[index + 1], when, plan);
}

void TransitionsLookahead::guess_tokens(LayerTime when, const Decisions& decisions, Plan& plan) {
  needs_.clear();
  for (const Sequence& sequence : sequences_) {
    const size_t last = sequence.rows.first_row + sequence.rows.num_rows - 1;
    add_row(tables_.back(), row_of(decisions.expert_ids, decisions.top_k, last));
  }
  append_guesses(needs_.best(options_.max_guesses), moe_.layers.front(), when, plan);
}

void TransitionsLookahead::add_row(const TransitionTable& table,
                                   std::span<const ExpertId> experts) {
  table.likely_after(experts, likely_);
  needs_.add_row(likely_);
}

}  // namespace pregate::router
