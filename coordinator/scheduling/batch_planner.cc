#include "coordinator/scheduling/batch_planner.h"

#include <algorithm>

#include "base/check.h"

namespace pregate::coordinator {

std::vector<Slice> BatchPlanner::plan() {
  std::vector<Slice> step;
  size_t budget = limits_.max_step_tokens;
  const size_t num_preemptions_before = counts_.num_preemptions;
  // Decodes before prefills: a token somebody is reading along with must not wait for a prompt.
  for (const bool decode : {true, false}) {
    for (size_t i = 0; i < running_.size() && budget > 0; ++i) {
      Sequence& sequence = *running_[i];
      const size_t left = sequence.tokens.size() - sequence.num_computed;
      if ((left == 1) != decode) continue;
      const size_t count = std::min(left, budget);
      if (!reserve_or_preempt(sequence, count)) break;
      step.push_back({&sequence, count});
      budget -= count;
    }
  }
  // A sequence planned early may have been preempted by one planned later.
  std::erase_if(step, [](const Slice& slice) { return slice.sequence->blocks.blocks().empty(); });
  // After a preemption the cache is full: admitting would only move the trouble.
  if (counts_.num_preemptions == num_preemptions_before) admit(budget, step);
  return step;
}

// False when the sequence itself had to give way.
bool BatchPlanner::reserve_or_preempt(Sequence& sequence, size_t num_tokens) {
  while (!sequence.blocks.reserve(pool_, sequence.num_computed + num_tokens)) {
    const bool is_last = running_.back().get() == &sequence;
    // One sequence alone always fits: the scheduler refuses longer ones.
    PREGATE_CHECK(running_.size() > 1);
    preempt_last();
    if (is_last) return false;
  }
  return true;
}

void BatchPlanner::preempt_last() {
  std::unique_ptr<Sequence> sequence = std::move(running_.back());
  running_.pop_back();
  sequence->blocks.release(pool_);
  sequence->num_computed = 0;
  waiting_.push_front(std::move(sequence));
  ++counts_.num_preemptions;
}

void BatchPlanner::admit(size_t budget, std::vector<Slice>& step) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (budget == 0 || running_.size() >= limits_.max_sequences) return;
    Sequence& sequence = **next;
    if (!sequence.is_leader() && !sequence.request().prompt_computed) {
      ++next;
      continue;
    }
    // The last token is always computed: its logits are what the sequence waits for.
    const size_t reusable = sequence.wants_prompt_logprobs() ? 0 : sequence.tokens.size() - 1;
    const size_t cached = sequence.blocks.take_prefix(pool_, sequence.tokens, reusable);
    const size_t count = std::min(sequence.tokens.size() - cached, budget);
    if (!sequence.blocks.reserve(pool_, cached + count)) {
      sequence.blocks.release(pool_);
      return;
    }
    sequence.num_computed = cached;
    if (sequence.num_generated() == 0) sequence.note_cached(cached);
    counts_.num_prefix_tokens_asked += sequence.tokens.size();
    counts_.num_prefix_tokens_hit += cached;
    step.push_back({&sequence, count});
    budget -= count;
    running_.push_back(std::move(*next));
    next = waiting_.erase(next);
  }
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
