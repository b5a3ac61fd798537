#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>

#include <gtest/gtest.h>

namespace pregate::engine {
namespace {

constexpr size_t kVocab = 6;
// Probabilities 0.4, 0.3, 0.15, 0.1, 0.04, 0.01.
const std::vector<float> kLogits = {std::log(0.4f), std::log(0.3f),  std::log(0.15f),
                                    std::log(0.1f), std::log(0.04f), std::log(0.01f)};

std::map<TokenId, double> frequencies(SamplingParams params, int draws = 20000) {
  params.seed = 1;
  Sampler sampler(params, {}, 0, 0);
  std::map<TokenId, double> counts;
  for (int i = 0; i < draws; ++i) counts[sampler.sample(kLogits, kVocab, {}).token] += 1.0 / draws;
  return counts;
}

TEST(Sampler, GreedyTakesTheBestAndTheFirstOfEquals) {
  Sampler sampler({.temperature = 0}, {}, 0, 0);
  EXPECT_EQ(sampler.sample(kLogits, kVocab, {}).token, 0);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 2, 2, 0}, 4, {}).token, 1);
}

TEST(Sampler, ADrawIsEnoughUnlessLogitsAreReported) {
  const auto is_enough = [](SamplingParams params) {
    return Sampler(std::move(params), std::vector<TokenId>{1}, 0, 0).next_draw({}).has_value();
  };
  EXPECT_TRUE(is_enough({}));
  EXPECT_TRUE(is_enough({.temperature = 0}));
  EXPECT_TRUE(is_enough({.temperature = 0, .top_p = 0.5f, .top_k = 3, .min_p = 0.1f, .seed = 4}));
  EXPECT_TRUE(is_enough({.temperature = 2, .top_p = 0.5f, .top_k = 3, .min_p = 0.1f, .seed = 4}));
  EXPECT_TRUE(is_enough({.presence_penalty = 0.1f}));
  EXPECT_TRUE(is_enough({.temperature = 0, .frequency_penalty = -0.1f}));
  EXPECT_TRUE(is_enough({.repetition_penalty = 1.1f}));
  EXPECT_TRUE(is_enough({.temperature = 0, .logit_bias = {{7, 1.0f}}}));
  EXPECT_FALSE(is_enough({.logprobs = 0}));
  Sampler greedy({.temperature = 0}, {}, 0, 0);
  EXPECT_TRUE(greedy.next_draw(std::vector<TokenId>{2}));
}

/// As long as a draw is not taken the next one is the same, and it makes no difference who draws.
TEST(Sampler, DrawnElsewhereItIsTheSameToken) {
  const SamplingParams params{
      .temperature = 1.5f, .top_p = 0.9f, .top_k = 5, .min_p = 0.01f, .seed = 5};
  Sampler samples(params, {}, 0, 0), draws(params, {}, 0, 0);
  std::set<TokenId> seen;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(compute::draw(kLogits, *draws.next_draw({})),
              compute::draw(kLogits, *draws.next_draw({})));
    const auto token = static_cast<TokenId>(compute::draw(kLogits, *draws.next_draw({})));
    EXPECT_EQ(draws.take_drawn(token).token, samples.sample(kLogits, kVocab, {}).token);
    seen.insert(token);
  }
  EXPECT_EQ(seen.size(), 4u);
}

/// What changes logits, in the words of vLLM, and all of it anew for each token.
class PlainChanges {
 public:
  PlainChanges(const SamplingParams& params, const std::vector<TokenId>& prompt)
      : params_(params), prompt_(prompt) {}

  void say(TokenId token) { generated_.push_back(token); }

  std::vector<float> apply(std::vector<float> logits, const std::vector<TokenId>& forbidden) const {
    for (TokenId token = 0; token < TokenId(logits.size()); ++token) {
      float& logit = logits[size_t(token)];
      if (params_.logit_bias.contains(token)) logit += params_.logit_bias.at(token);
      const auto count = float(std::ranges::count(generated_, token));
      if (count > 0 || std::ranges::count(prompt_, token) > 0) {
        logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
      }
      logit -= params_.frequency_penalty * count;
      if (count > 0) logit -= params_.presence_penalty;
      if (std::ranges::count(forbidden, token) > 0) logit = -HUGE_VALF;
    }
    return logits;
  }

 private:
  const SamplingParams params_;
  const std::vector<TokenId> prompt_;
  std::vector<TokenId> generated_;
};

const SamplingParams kChanging[] = {{.repetition_penalty = 1.3f},
                                    {.repetition_penalty = 0.7f},
                                    {.presence_penalty = 0.9f},
                                    {.frequency_penalty = 0.21f},
                                    {.presence_penalty = -0.4f, .frequency_penalty = -0.03f},
                                    {.logit_bias = {{2, 1.1f}, {5, -3.0f}, {6, 9.0f}, {-1, 9.0f}}},
                                    {.presence_penalty = 0.3f,
                                     .frequency_penalty = 0.11f,
                                     .repetition_penalty = 1.07f,
                                     .logit_bias = {{1, -0.7f}, {4, 1.9f}}},
                                    {}};

/// Token after token, whoever draws; every third time some are forbidden.
void expect_plain_changes(const SamplingParams& params) {
  const std::vector<TokenId> prompt = {4, 0, 4, 17};  // and padding
  Sampler samples(params, prompt, 0, 0), draws(params, prompt, 0, 0);
  PlainChanges plain(params, prompt);
  for (int i = 0; i < 60; ++i) {
    const auto forbidden = i % 3 == 2 ? std::vector<TokenId>{0, 3, 9} : std::vector<TokenId>{};
    compute::Draw draw = draws.next_draw(forbidden).value();
    std::vector<float> changed = kLogits;
    compute::change_logits(changed, draw.changes);
    EXPECT_EQ(changed, plain.apply(kLogits, forbidden));
    draw.changes = {};
    const auto token = static_cast<TokenId>(compute::draw(changed, draw));
    plain.say(draws.take_drawn(token).token);
    EXPECT_EQ(samples.sample(kLogits, kVocab, forbidden).token, token);
  }
}

TEST(Sampler, ChangesFollowWhatWasSaid) {
  for (size_t i = 0; i < std::size(kChanging); ++i) {
    SCOPED_TRACE(i);
    SamplingParams params = kChanging[i];
    for (const float temperature : {0.0f, 1.5f}) {
      params.temperature = temperature;
      expect_plain_changes(params);
    }
  }
}

/// As many as there are different tokens, not as many as were said; none that change nothing.
TEST(Sampler, ChangesAreAsManyAsNeeded) {
  const auto count_said = [](SamplingParams params) {
    Sampler sampler(std::move(params), std::vector<TokenId>{1, 1, 3, 5, 3}, 0, 0);
    for (const TokenId token : {3, 2, 2, 4, 4}) sampler.take_drawn(token);
    return sampler.next_draw({})->changes.said.size();
  };
  EXPECT_EQ(count_said({.repetition_penalty = 1.1f}), 5u);
  EXPECT_EQ(count_said({.presence_penalty = 1.1f}), 3u);
  EXPECT_EQ(count_said({.frequency_penalty = 1.1f}), 3u);
  EXPECT_EQ(count_said({.logit_bias = {{3, 1.0f}}}), 0u);
  Sampler plain({}, std::vector<TokenId>{1, 2}, 0, 0);
  plain.take_drawn(3);
  EXPECT_TRUE(plain.next_draw({})->changes.empty());
  EXPECT_FALSE(plain.next_draw(std::vector<TokenId>{1})->changes.empty());
}

TEST(Sampler, NeverTakesPaddingOrForbiddenTokens) {
  Sampler greedy({.temperature = 0}, {}, 0, 0);
  EXPECT_EQ(greedy.sample(std::vector<float>{1, 2, 9}, 2, {}).token, 1);
  EXPECT_EQ(greedy.sample(kLogits, kVocab, std::vector<TokenId>{0, 1}).token, 2);
  Sampler random({.temperature = 5}, {}, 0, 0);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(random.sample(kLogits, 3, {}).token, 3);
}

TEST(Sampler, DrawsWithTheModelsProbabilities) {
  const auto seen = frequencies({});
  EXPECT_NEAR(seen.at(0), 0.4, 0.02);
  EXPECT_NEAR(seen.at(1), 0.3, 0.02);
  EXPECT_NEAR(seen.at(5), 0.01, 0.005);
}

TEST(Sampler, TemperatureSharpens) {
  const auto seen = frequencies({.temperature = 0.5f});
  const double total = 0.16 + 0.09 + 0.0225 + 0.01 + 0.0016 + 0.0001;
  EXPECT_NEAR(seen.at(0), 0.16 / total, 0.02);
  EXPECT_NEAR(seen.at(1), 0.09 / total, 0.02);
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  EXPECT_EQ(frequencies({.top_k = 2}).size(), 2u);
  EXPECT_NEAR(frequencies({.top_k = 2}).at(0), 0.4 / 0.7, 0.02);
  EXPECT_EQ(frequencies({.top_p = 0.69f}).size(), 2u);
  EXPECT_EQ(frequencies({.top_p = 0.71f}).size(), 3u);
  EXPECT_EQ(frequencies({.top_p = 0.001f}).size(), 1u);
  EXPECT_EQ(frequencies({.min_p = 0.3f}).size(), 3u);  // 0.15 / 0.4 is in, 0.1 / 0.4 is out
}

TEST(Sampler, TheSameSeedGivesTheSameTokensAndAnotherStreamOthers) {
  const auto run = [](uint64_t seed, uint32_t stream) {
    Sampler sampler({.seed = seed}, {}, 99, stream);
    std::vector<TokenId> tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sampler.sample(kLogits, kVocab, {}).token);
    return tokens;
  };
  EXPECT_EQ(run(7, 0), run(7, 0));
  EXPECT_NE(run(7, 0), run(8, 0));
  EXPECT_NE(run(7, 0), run(7, 1));
}

TEST(Sampler, PenaltiesCountWhatWasSaid) {
  const std::vector<float> logits = {2.0f, 1.9f, 1.8f};
  Sampler presence({.temperature = 0, .presence_penalty = 0.15f}, {}, 0, 0);
  EXPECT_EQ(presence.sample(logits, 3, {}).token, 0);
  EXPECT_EQ(presence.sample(logits, 3, {}).token, 1);
  EXPECT_EQ(presence.sample(logits, 3, {}).token, 0);  // 1.85, 1.75, 1.8
  EXPECT_EQ(presence.sample(logits, 3, {}).token, 0);  // presence does not add up

  Sampler frequency({.temperature = 0, .frequency_penalty = 0.06f}, {}, 0, 0);
  std::vector<TokenId> tokens;
  for (int i = 0; i < 4; ++i) tokens.push_back(frequency.sample(logits, 3, {}).token);
  EXPECT_EQ(tokens, (std::vector<TokenId>{0, 0, 1, 0}));

  // Over the prompt too, and dividing positive logits but multiplying negative ones.
  Sampler repetition({.temperature = 0, .repetition_penalty = 1.2f}, std::vector<TokenId>{0}, 0, 0);
  EXPECT_EQ(repetition.sample(logits, 3, {}).token, 1);
  Sampler negative({.temperature = 0, .repetition_penalty = 1.2f}, std::vector<TokenId>{0}, 0, 0);
  EXPECT_EQ(negative.sample(std::vector<float>{-1.0f, -1.1f}, 2, {}).token, 1);
}

TEST(Sampler, LogitBiasBansAndForces) {
  Sampler ban({.temperature = 0, .logit_bias = {{0, -100.0f}}}, {}, 0, 0);
  EXPECT_EQ(ban.sample(kLogits, kVocab, {}).token, 1);
  Sampler force({.temperature = 1, .logit_bias = {{5, 100.0f}}}, {}, 0, 0);
  EXPECT_EQ(force.sample(kLogits, kVocab, {}).token, 5);
}

TEST(Sampler, ReportsTheModelsOwnLogprobs) {
  Sampler sampler({.temperature = 0, .logit_bias = {{0, -100.0f}}, .logprobs = 2}, {}, 0, 0);
  const SampledToken sampled = sampler.sample(kLogits, kVocab, {});
  EXPECT_EQ(sampled.token, 1);
  EXPECT_NEAR(sampled.logprob, std::log(0.3), 1e-5);
  ASSERT_EQ(sampled.top.size(), 2u);
  EXPECT_EQ(sampled.top[0].token, 0);
  EXPECT_NEAR(sampled.top[0].logprob, std::log(0.4), 1e-5);
  EXPECT_EQ(sampled.top[1].token, 1);
}

}  // namespace
}  // namespace pregate::engine
