#include "coordinator/scheduling/batch_planner.h"

#include <algorithm>

#include "base/check.h"

namespace pregate::coordinator {

namespace {

std::vector<Candidate> describe(std::span<Sequence* const> sequences, size_t num_running) {
  std::vector<Candidate> candidates;
  for (const Sequence* sequence : sequences) {
    const size_t num_known = std::min(sequence->experts.size(), sequence->num_computed);
    candidates.push_back({.is_running = candidates.size() < num_running,
                          .num_tokens = sequence->tokens.size() - sequence->num_computed,
                          .num_passed_over = sequence->num_passed_over,
                          .experts = std::span(sequence->experts).subspan(num_known)});
  }
  return candidates;
}

void count_passed_over(std::span<Sequence* const> candidates, const std::vector<Slice>& step) {
  for (Sequence* sequence : candidates) ++sequence->num_passed_over;
  for (const Slice& slice : step) slice.sequence->num_passed_over = 0;
}

}  // namespace

std::vector<Slice> BatchPlanner::plan() {
  std::vector<Slice> step;
  size_t budget = limits_.max_step_tokens;
  admitting_ = true;
  const std::vector<Sequence*> sequences = candidates();
  const size_t num_running = running_.size();
  for (const size_t i : policy_->order(describe(sequences, num_running), budget)) {
    if (budget == 0) break;
    Sequence& sequence = *sequences[i];
    const size_t count = i < num_running ? extend(sequence, budget) : admit(sequence, budget);
    if (count > 0) step.push_back({&sequence, count});
    budget -= count;
  }
  // A sequence planned early may have been preempted by one planned later.
  std::erase_if(step, [](const Slice& slice) { return slice.sequence->blocks.blocks().empty(); });
  count_passed_over(sequences, step);
  return step;
}

// Who runs, and if there is a place, who may come into it.
std::vector<Sequence*> BatchPlanner::candidates() const {
  std::vector<Sequence*> sequences;
  for (const auto& sequence : running_) sequences.push_back(sequence.get());
  if (running_.size() >= limits_.max_sequences) return sequences;
  for (const auto& sequence : waiting_) {
    if (may_be_admitted(*sequence)) sequences.push_back(sequence.get());
  }
  return sequences;
}

bool BatchPlanner::may_be_admitted(const Sequence& sequence) const {
  return !sequence.missing && (sequence.is_leader() || sequence.request().prompt_computed);
}

// Of a running sequence: the tokens it got. None if it had to give way, now or before.
size_t BatchPlanner::extend(Sequence& sequence, size_t budget) {
  if (sequence.blocks.blocks().empty()) return 0;
  const size_t count = std::min(sequence.tokens.size() - sequence.num_computed, budget);
  return reserve_or_preempt(sequence, count) ? count : 0;
}

// The tokens it got; none if there is no place or no room.
size_t BatchPlanner::admit(Sequence& sequence, size_t budget) {
  if (!admitting_ || running_.size() >= limits_.max_sequences) return 0;
  const bool is_new = sequence.blocks.blocks().empty();  // else it was set aside with its blocks
  if (is_new) take_prefix(sequence);
  const size_t count = std::min(sequence.tokens.size() - sequence.num_computed, budget);
  while (!sequence.blocks.reserve(pool_, sequence.num_computed + count)) {
    if (preempt_waiting(sequence)) continue;
    if (is_new) {
      sequence.blocks.release(pool_);
      sequence.num_computed = 0;
    }
    admitting_ = false;
    return 0;
  }
  if (is_new) note_prefix(sequence);
  const auto place = std::ranges::find(waiting_, &sequence, &std::unique_ptr<Sequence>::get);
  running_.push_back(std::move(*place));
  waiting_.erase(place);
  return count;
}

// False when the sequence itself had to give way.
bool BatchPlanner::reserve_or_preempt(Sequence& sequence, size_t num_tokens) {
  while (!sequence.blocks.reserve(pool_, sequence.num_computed + num_tokens)) {
    admitting_ = false;  // it would only move the trouble
    if (preempt_waiting(sequence)) continue;
    const bool is_last = running_.back().get() == &sequence;
    // One sequence alone always fits: the scheduler refuses longer ones.
    PREGATE_CHECK(running_.size() > 1);
    preempt_last();
    if (is_last) return false;
  }
  return true;
}

void BatchPlanner::preempt_last() {
  preempt(*running_.back());
  put_back(std::move(running_.back()));
  running_.pop_back();
}

// Of the sequences that were set aside and still have blocks, the last. False if there is none.
bool BatchPlanner::preempt_waiting(const Sequence& in_favour_of) {
  const auto has_blocks = [&](const std::unique_ptr<Sequence>& other) {
    return other.get() != &in_favour_of && !other->blocks.blocks().empty();
  };
  const auto last = std::find_if(waiting_.rbegin(), waiting_.rend(), has_blocks);
  if (last == waiting_.rend()) return false;
  preempt(**last);
  return true;
}

void BatchPlanner::preempt(Sequence& sequence) {
  sequence.blocks.release(pool_);
  sequence.num_computed = 0;
  ++counts_.num_preemptions;
}

void BatchPlanner::put_back(std::unique_ptr<Sequence> sequence) {
  const auto next = std::ranges::find_if(
      waiting_, [&](const auto& other) { return sequence->comes_before(*other); });
  waiting_.insert(next, std::move(sequence));
}

void BatchPlanner::set_aside(Sequence& sequence, engine::MissingExperts missing) {
  const auto place = std::ranges::find(running_, &sequence, &std::unique_ptr<Sequence>::get);
  PREGATE_CHECK(place != running_.end());
  sequence.missing = std::move(missing);
  put_back(std::move(*place));
  running_.erase(place);
}

void BatchPlanner::resume_if(const std::function<bool(const Sequence&)>& predicate) {
  for (const auto& sequence : waiting_) {
    if (sequence->missing && predicate(*sequence)) sequence->missing.reset();
  }
}

size_t BatchPlanner::num_set_aside() const {
  return static_cast<size_t>(std::ranges::count_if(
      waiting_, [](const auto& sequence) { return sequence->missing.has_value(); }));
}

void BatchPlanner::take_prefix(Sequence& sequence) {
  // The last token is always computed: its logits are what the sequence waits for.
  const size_t reusable = sequence.wants_prompt_logprobs() ? 0 : sequence.tokens.size() - 1;
  sequence.num_computed = sequence.blocks.take_prefix(pool_, sequence.tokens, reusable);
}

void BatchPlanner::note_prefix(Sequence& sequence) {
  if (sequence.num_generated() == 0) sequence.note_cached(sequence.num_computed);
  counts_.num_prefix_tokens_asked += sequence.tokens.size();
  counts_.num_prefix_tokens_hit += sequence.num_computed;
}

void BatchPlanner::for_each(const std::function<void(Sequence&)>& visit) {
  for (const auto& sequence : running_) visit(*sequence);
  for (const auto& sequence : waiting_) visit(*sequence);
}

void BatchPlanner::commit(const std::vector<Slice>& step) {
  for (const auto& [sequence, num_tokens] : step) {
    sequence->num_computed += num_tokens;
    sequence->blocks.publish(pool_, sequence->tokens, sequence->num_computed);
    if (sequence->num_computed >= sequence->num_prompt) sequence->request().prompt_computed = true;
  }
}

std::vector<std::unique_ptr<Sequence>> BatchPlanner::remove_if(
    const std::function<bool(const Sequence&)>& predicate) {
  std::vector<std::unique_ptr<Sequence>> removed;
  const auto take = [&](auto& sequences) {
    for (auto& sequence : sequences) {
      if (predicate(*sequence)) {
        sequence->blocks.release(pool_);
        // Choices that waited for this one's prompt go on by themselves.
        sequence->request().prompt_computed = true;
        removed.push_back(std::move(sequence));
      }
    }
    std::erase(sequences, nullptr);
  };
  take(running_);
  take(waiting_);
  return removed;
}

}  // namespace pregate::coordinator
