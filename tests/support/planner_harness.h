// A batch planner whose engine is played: every sequence whose tokens are all computed gets an 'a'.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include <gtest/gtest.h>

#include "coordinator/scheduling/batch_planner.h"
#include "tests/unit/scheduling/fake_tokenizer.h"

namespace pregate::test_support {

using coordinator::LetterTokenizer;

struct HarnessOptions {
  coordinator::BatchLimits limits;
  size_t num_blocks = 64;
  bool prefix_caching = true;
  coordinator::BatchPolicyOptions policy = {};
  /// The expert of the token at a position of a sequence; none: nobody knows.
  std::function<ExpertId(const coordinator::Sequence&, size_t position)> expert_of = {};
};

class PlannerHarness {
 public:
  using Sequence = coordinator::Sequence;
  using Slice = coordinator::Slice;

  PlannerHarness(coordinator::BatchLimits limits, size_t num_blocks, bool prefix_caching = true)
      : PlannerHarness(HarnessOptions{
            .limits = limits, .num_blocks = num_blocks, .prefix_caching = prefix_caching}) {}
  explicit PlannerHarness(HarnessOptions options)
      : options_(std::move(options)),
        pool_(options_.num_blocks, options_.prefix_caching),
        planner_(options_.limits, pool_, make_batch_policy(options_.policy)) {}

  std::shared_ptr<coordinator::ActiveRequest> add(size_t num_prompt, uint32_t max_tokens,
                                                  uint32_t num_choices = 1) {
    auto request = std::make_shared<coordinator::ActiveRequest>();
    request->id = RequestId(++last_id_);
    for (size_t i = 0; i < num_prompt; ++i) {
      request->request.prompt.push_back(static_cast<TokenId>((i * last_id_) % 26));
    }
    request->request.max_tokens = max_tokens;
    request->request.num_choices = num_choices;
    request->listener.on_chunk = [this, id = request->id](coordinator::GenerationChunk chunk) {
      num_tokens_[id] += chunk.tokens.size();
      if (chunk.finish) ++num_finished_[id];
    };
    for (uint32_t c = 0; c < num_choices; ++c) {
      planner_.add(std::make_unique<Sequence>(request, c, rules_, 0));
    }
    return request;
  }

  std::vector<Slice> plan() {
    planner_.for_each([this](Sequence& sequence) { look(sequence); });
    std::vector<Slice> slices = planner_.plan();
    size_t total = 0;
    for (const Slice& slice : slices) {
      total += slice.num_tokens;
      EXPECT_GT(slice.num_tokens, 0u);
      EXPECT_LE(slice.sequence->num_computed + slice.num_tokens, slice.sequence->tokens.size());
      const size_t room = slice.sequence->blocks.blocks().size() * compute::kKvBlockTokens;
      EXPECT_GE(room, slice.sequence->num_computed + slice.num_tokens);
    }
    EXPECT_LE(total, options_.limits.max_step_tokens);
    EXPECT_LE(planner_.num_running(), options_.limits.max_sequences);
    return slices;
  }

  void compute(const std::vector<Slice>& slices) {
    const std::vector<float> logits = {1.0f, 0.0f};
    for (const Slice& slice : slices) {
      if (slice.reaches_end()) slice.sequence->append_token(logits);
    }
    planner_.commit(slices);
    for (const Slice& slice : slices) slice.sequence->flush();
    planner_.remove_if([](const Sequence& sequence) { return sequence.finished(); });
  }

  // What each request computes in the next step; sequences of `set_aside` lack an expert.
  std::map<uint64_t, size_t> step(const std::function<bool(const Sequence&)>& set_aside =
                                      [](const auto&) { return false; }) {
    std::vector<Slice> slices = plan();
    std::map<uint64_t, size_t> planned;
    for (const Slice& slice : slices) {
      planned[slice.sequence->request().id.value] += slice.num_tokens;
    }
    std::erase_if(slices, [&](const Slice& slice) {
      if (!set_aside(*slice.sequence)) return false;
      planner_.set_aside(*slice.sequence, {LayerIdx(1), {ExpertId(2)}});
      return true;
    });
    compute(slices);
    return planned;
  }

  void resume_all() {
    planner_.resume_if([](const Sequence&) { return true; });
  }
  bool idle() const { return planner_.num_running() + planner_.num_waiting() == 0; }
  coordinator::BatchPlanner& planner() { return planner_; }
  engine::BlockPool& pool() { return pool_; }
  size_t num_tokens(RequestId id) { return num_tokens_[id]; }
  size_t num_finished(RequestId id) { return num_finished_[id]; }

 private:
  void look(Sequence& sequence) const {
    if (!options_.expert_of) return;
    while (sequence.experts.size() < sequence.tokens.size()) {
      sequence.experts.push_back(options_.expert_of(sequence, sequence.experts.size()));
    }
  }

  const HarnessOptions options_;
  const LetterTokenizer tokenizer_;
  const coordinator::TextRules rules_{&tokenizer_, {}, 2, 1000};
  engine::BlockPool pool_;
  coordinator::BatchPlanner planner_;
  uint64_t last_id_ = 0;
  std::map<RequestId, size_t> num_tokens_, num_finished_;
};

}  // namespace pregate::test_support
