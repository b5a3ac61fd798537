#include "coordinator/scheduling/expert_preview.h"

#include <algorithm>

#include "base/check.h"

namespace pregate::coordinator {
namespace {

using compute::kKvBlockTokens;

// The last token was sampled, all before it are in the cache, and nobody has asked about it.
bool has_news(const Sequence& sequence) {
  const size_t num_known = sequence.experts.size();
  return num_known >= sequence.num_prompt && num_known < sequence.tokens.size() &&
         sequence.num_computed + 1 >= sequence.tokens.size();
}

}  // namespace

ExpertPreview::ExpertPreview(router::Router& router, Blocks blocks) : router_(router) {
  PREGATE_CHECK(router.horizon() == router::Horizon::kAllLayers);
  PREGATE_CHECK(router.num_preview_blocks() > blocks.num_prompt);
  for (size_t i = 0; i < router.num_preview_blocks(); ++i) {
    auto& use = i < blocks.num_prompt ? prompt_blocks_ : next_blocks_;
    use.push_back(static_cast<uint32_t>(blocks.num_kv + i));
  }
}

void ExpertPreview::look(BatchPlanner& planner, size_t max_prompt_tokens, const OnError& on_error) {
  std::vector<Sequence*> sampled;
  size_t budget = max_prompt_tokens;
  planner.for_each([&](Sequence& sequence) {
    if (sequence.request().failed) return;
    if (sequence.experts.size() < sequence.num_prompt) {
      budget -= look_at_prompt(sequence, budget, on_error);
    }
    if (has_news(sequence)) sampled.push_back(&sequence);
  });
  const std::span<Sequence* const> all = sampled;
  for (size_t first = 0; first < all.size(); first += next_blocks_.size()) {
    look_at_sampled(all.subspan(first, std::min(next_blocks_.size(), all.size() - first)),
                    on_error);
  }
}

// A token may be the first of a block that its sequence does not have yet.
void ExpertPreview::look_at_sampled(std::span<Sequence* const> sequences, const OnError& on_error) {
  Rows rows;
  std::vector<std::vector<uint32_t>> tables;
  for (const Sequence* sequence : sequences) {
    const auto blocks = sequence->blocks.blocks();
    std::vector<uint32_t> table(blocks.begin(), blocks.end());
    table.push_back(next_blocks_[tables.size()]);
    tables.push_back(std::move(table));
    const size_t num_known = sequence->experts.size();
    rows.add(sequence->tokens, num_known, sequence->tokens.size() - num_known, tables.back());
  }
  if (const Status asked = ask(rows); !asked) {
    for (Sequence* sequence : sequences) on_error(*sequence, asked.error());
    return;
  }
  auto answer = experts_.begin();
  for (Sequence* sequence : sequences) {
    const auto count = static_cast<ptrdiff_t>(sequence->tokens.size() - sequence->experts.size());
    sequence->experts.insert(sequence->experts.end(), answer, answer + count);
    answer += count;
  }
}

// Goes on where it was left, if the blocks still hold what came before. Returns the tokens it read.
size_t ExpertPreview::look_at_prompt(Sequence& sequence, size_t max_tokens,
                                     const OnError& on_error) {
  ActiveRequest& request = sequence.request();
  const std::vector<TokenId>& prompt = request.request.prompt;
  std::vector<ExpertId>& known = request.prompt_experts;
  size_t count = 0;
  if (known.size() < prompt.size() && max_tokens > 0) {
    if (in_prompt_blocks_ != request.id) known.clear();
    in_prompt_blocks_ = request.id;
    count = std::min(prompt.size() - known.size(), max_tokens);
    Rows rows;
    rows.add(prompt, known.size(), count, prompt_blocks_);
    if (const Status asked = ask(rows); !asked) {
      on_error(sequence, asked.error());
      return count;
    }
    known.insert(known.end(), experts_.begin(), experts_.end());
  }
  if (known.size() == prompt.size()) sequence.experts = known;
  return count;
}

Status ExpertPreview::ask(const Rows& rows) {
  PREGATE_TRY(
      router_.preview({rows.tokens, rows.positions, rows.lengths, rows.sequences}, experts_));
  PREGATE_CHECK(experts_.size() == rows.tokens.size());  // one expert per token
  return {};
}

void ExpertPreview::Rows::add(std::span<const TokenId> all, size_t first, size_t count,
                              std::span<const uint32_t> blocks) {
  sequences.push_back({tokens.size(), count, first, blocks});
  for (size_t position = first; position < first + count; ++position) {
    tokens.push_back(all[position]);
    positions.push_back(static_cast<uint32_t>(position));
    lengths.push_back(static_cast<uint32_t>(all.size()));
  }
}

}  // namespace pregate::coordinator
