#include "coordinator/scheduling/expert_preview.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/scheduling/fake_tokenizer.h"

namespace pregate::coordinator {
namespace {

constexpr size_t kNumKvBlocks = 50, kNumPromptBlocks = 5, kNumNextBlocks = 2;

/// A token's expert is the sum of all tokens up to it. Blocks keep what they were given, so that a
/// row whose predecessors are not there is noticed.
class SummingRouter final : public router::Router {
 public:
  router::Horizon horizon() const override { return router::Horizon::kAllLayers; }
  void route(LayerIdx, compute::Matrix<const float>, router::Decisions&) override {}
  size_t num_preview_blocks() const override { return kNumPromptBlocks + kNumNextBlocks; }

  Status begin_step(const router::StepTokens& step) override {
    std::vector<ExpertId> experts;
    return preview(step, experts);
  }
  Status preview(const router::StepTokens& rows, std::vector<ExpertId>& experts) override {
    experts.clear();
    passes.push_back(rows.tokens.size());
    for (const auto& sequence : rows.sequences) {
      for (size_t i = 0; i < sequence.num_rows; ++i) {
        const TokenId token = rows.tokens[sequence.first_row + i];
        if (token == bad_token) return fail(ErrorCode::kDataLoss, "cannot read token {}", token);
        const size_t position = sequence.first_position + i;
        EXPECT_EQ(rows.positions[sequence.first_row + i], position);
        entry(sequence.blocks, position) = token;
        experts.emplace_back(sum_to(sequence.blocks, position));
      }
    }
    return {};
  }

  std::vector<size_t> passes;  // their numbers of rows
  TokenId bad_token = -1;

 private:
  using Entries = std::array<TokenId, compute::kKvBlockTokens>;

  TokenId& entry(std::span<const uint32_t> blocks, size_t position) {
    const uint32_t block = blocks[position / compute::kKvBlockTokens];
    EXPECT_LT(block, entries_.size());
    return entries_.at(block)[position % compute::kKvBlockTokens];
  }
  uint32_t sum_to(std::span<const uint32_t> blocks, size_t position) {
    uint32_t sum = 0;
    for (size_t p = 0; p <= position; ++p) sum += static_cast<uint32_t>(entry(blocks, p));
    return sum;
  }
  std::vector<Entries> entries_{kNumKvBlocks + kNumPromptBlocks + kNumNextBlocks};
};

class ExpertPreviewTest : public ::testing::Test {
 protected:
  std::shared_ptr<ActiveRequest> add(size_t num_prompt, uint32_t num_choices = 1) {
    auto request = std::make_shared<ActiveRequest>();
    request->id = RequestId(++last_id_);
    for (size_t i = 0; i < num_prompt; ++i) {
      request->request.prompt.push_back(static_cast<TokenId>((i * last_id_ + last_id_) % 26));
    }
    request->request.max_tokens = 40;
    request->request.num_choices = num_choices;
    request->listener.on_chunk = [](const GenerationChunk&) {};
    for (uint32_t c = 0; c < num_choices; ++c) {
      planner_.add(std::make_unique<Sequence>(request, c, rules_, 0));
    }
    return request;
  }

  void look(size_t max_prompt_tokens) {
    router_.passes.clear();
    preview_.look(planner_, max_prompt_tokens, [this](Sequence& sequence, const Error&) {
      failed_.push_back(sequence.request().id.value);
      sequence.request().failed = true;
    });
  }

  /// The engine's part: what each step computes lies in the router's blocks afterwards.
  void step() {
    const std::vector<Slice> slices = planner_.plan();
    for (const Slice& slice : slices) {
      Sequence& sequence = *slice.sequence;
      std::vector<uint32_t> positions(slice.num_tokens), lengths(slice.num_tokens, 1);
      for (size_t i = 0; i < slice.num_tokens; ++i) {
        positions[i] = static_cast<uint32_t>(sequence.num_computed + i);
      }
      const compute::SequenceRows rows{0, slice.num_tokens, sequence.num_computed,
                                       sequence.blocks.blocks()};
      const auto tokens = std::span(sequence.tokens).subspan(sequence.num_computed);
      ASSERT_TRUE(
          router_.begin_step({tokens.first(slice.num_tokens), positions, lengths, {&rows, 1}}));
      if (slice.reaches_end()) sequence.append_token(std::vector<float>{0.0f, 1.0f});
    }
    planner_.commit(slices);
  }

  std::vector<Sequence*> all() {
    std::vector<Sequence*> sequences;
    planner_.for_each([&](Sequence& sequence) { sequences.push_back(&sequence); });
    return sequences;
  }

  static void expect_known(const Sequence& sequence, size_t count) {
    ASSERT_EQ(sequence.experts.size(), count);
    uint32_t sum = 0;
    for (size_t i = 0; i < count; ++i) {
      sum += static_cast<uint32_t>(sequence.tokens[i]);
      ASSERT_EQ(sequence.experts[i], ExpertId(sum)) << "position " << i;
    }
  }

  const LetterTokenizer tokenizer_;
  const TextRules rules_{&tokenizer_, {}, 2, kNumPromptBlocks* compute::kKvBlockTokens};
  SummingRouter router_;
  engine::BlockPool pool_{kNumKvBlocks, true};
  BatchPlanner planner_{{.max_step_tokens = 100, .max_sequences = 8},
                        pool_,
                        make_batch_policy({.name = BatchPolicyName::kExpertAware})};
  ExpertPreview preview_{router_, {.num_kv = kNumKvBlocks, .num_prompt = kNumPromptBlocks}};
  uint64_t last_id_ = 0;
  std::vector<uint64_t> failed_;
};

TEST_F(ExpertPreviewTest, APromptIsReadOnceForAllItsChoices) {
  add(40, 3);
  look(100);
  EXPECT_EQ(router_.passes, std::vector<size_t>{40});
  for (const Sequence* sequence : all()) expect_known(*sequence, 40);
  look(100);
  EXPECT_TRUE(router_.passes.empty());
}

TEST_F(ExpertPreviewTest, PromptsAreReadInTurnAndABoundedNumberOfTokensAtATime) {
  add(40);
  add(30);
  look(25);
  EXPECT_EQ(router_.passes, std::vector<size_t>{25});
  EXPECT_TRUE(all()[0]->experts.empty());
  look(25);
  EXPECT_EQ(router_.passes, (std::vector<size_t>{15, 10}));
  expect_known(*all()[0], 40);
  look(25);
  EXPECT_EQ(router_.passes, std::vector<size_t>{20});
  expect_known(*all()[1], 30);
}

/// The blocks are another prompt's now: what was read of this one is read again.
TEST_F(ExpertPreviewTest, APromptThatAnotherCameBetweenIsReadAgain) {
  add(40);
  look(25);
  auto removed = planner_.remove_if([](const Sequence&) { return true; });
  add(30);
  look(20);
  planner_.add(std::move(removed[0]));
  look(100);
  EXPECT_EQ(router_.passes, (std::vector<size_t>{10, 40}));
  for (const Sequence* sequence : all()) expect_known(*sequence, sequence->num_prompt);
}

/// Also where the token is the first of a block, which its sequence has only once it is planned;
/// and with more sequences than the router has blocks for at once.
TEST_F(ExpertPreviewTest, WhatWasSampledIsReadInTheSequencesOwnBlocks) {
  add(16);
  add(7);
  add(20, 2);
  look(100);
  for (size_t i = 0; i < 36; ++i) {
    step();
    look(100);
    for (const Sequence* sequence : all()) expect_known(*sequence, sequence->tokens.size());
  }
  EXPECT_EQ(router_.passes, (std::vector<size_t>{2, 2}));
}

/// It was computed before anybody had asked: then all that was sampled is made good at once.
TEST_F(ExpertPreviewTest, ASequenceThatRanUnknownIsMadeGood) {
  add(20);
  step();
  step();
  step();
  EXPECT_TRUE(all()[0]->experts.empty());
  look(100);
  expect_known(*all()[0], 23);
  EXPECT_EQ(router_.passes, (std::vector<size_t>{20, 3}));
}

/// Of what it had sampled everything is still known, though it must be computed again.
TEST_F(ExpertPreviewTest, ThePrefixCacheAndPreemptionChangeNothing) {
  add(33);
  look(100);
  step();
  look(100);
  step();
  add(33);
  auto again = std::make_shared<ActiveRequest>(all()[0]->request());
  again->id = RequestId(77);
  again->prompt_experts.clear();
  planner_.add(std::make_unique<Sequence>(again, 0, rules_, 0));
  look(100);
  step();
  look(100);
  for (const Sequence* sequence : all()) expect_known(*sequence, sequence->tokens.size());
}

TEST_F(ExpertPreviewTest, WhoseTokensCannotBeReadIsNamed) {
  add(4);  // 1 2 3 4
  add(3);  // 2 4 6
  router_.bad_token = 3;
  look(100);
  EXPECT_EQ(failed_, std::vector<uint64_t>{1});
  expect_known(*all()[1], 3);
  look(100);
  EXPECT_EQ(failed_, std::vector<uint64_t>{1});
}

}  // namespace
}  // namespace pregate::coordinator
