// Tokens are drawn by every back end as compute::draw() does it, whatever the logits.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>

#include "tests/conformance/compute/resident.h"

namespace pregate::compute {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// What changes logits.
struct Lists {
  std::vector<TokenBias> biases;
  std::vector<SaidToken> said;
  std::vector<uint32_t> forbidden;

  LogitChanges changes(const Penalties& penalties) const {
    return {.biases = biases, .said = said, .penalties = penalties, .forbidden = forbidden};
  }
};

/// Of the first of the tokens, which lists name in orders of their own.
Lists make_lists(const std::vector<uint32_t>& tokens, size_t num_biases, size_t num_said,
                 size_t num_forbidden) {
  Lists lists;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const float bias = static_cast<float>(i % 17) - 8.3f;
    if (i < num_biases) lists.biases.push_back({tokens[i], bias});
    if (i < num_said) lists.said.push_back({tokens[i], uint32_t(i % 4)});
    if (i < num_forbidden) lists.forbidden.push_back(tokens[i]);
  }
  std::ranges::reverse(lists.said);
  return lists;
}

/// A NaN is as good as another.
void expect_same(std::span<const float> numbers, std::span<const float> expected) {
  ASSERT_EQ(numbers.size(), expected.size());
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (std::isnan(numbers[i]) && std::isnan(expected[i])) continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(numbers[i]), std::bit_cast<uint32_t>(expected[i]))
        << numbers[i] << " in place of " << expected[i] << " at " << i;
  }
}

class DrawTest : public BackendTest {
 protected:
  std::vector<uint32_t> draw(Matrix<float> logits, const std::vector<Draw>& draws) {
    std::vector<uint32_t> tokens(logits.rows, 77);
    subject_->draw(logits, draws, tokens);
    return tokens;
  }

  void expect_drawn(Numbers logits, const std::vector<Draw>& draws) {
    Numbers expected = logits;
    std::vector<uint32_t> tokens;
    for (size_t r = 0; r < logits.rows; ++r) {
      tokens.push_back(draw_in_place(expected.view().row(r), draws[r]));
    }
    Resident resident(subject_, logits, 1);
    EXPECT_EQ(draw(resident.view(), draws), tokens);
    expect_same(resident.read().data, expected.data);
    EXPECT_EQ(draw(logits.view(), draws), tokens);
    expect_same(logits.data, expected.data);
  }

  std::vector<uint32_t> shuffled_tokens(size_t count) {
    std::vector<uint32_t> tokens(count);
    std::iota(tokens.begin(), tokens.end(), 0u);
    for (size_t i = count; i > 1; --i) std::swap(tokens[i - 1], tokens[random_.next_below(i)]);
    return tokens;
  }

  /// Of some draws without, with few and with many of each kind.
  void change_some(std::vector<Draw>& draws, size_t cols, std::vector<Lists>& lists) {
    lists.resize(draws.size());
    for (size_t i = 0; i < draws.size(); ++i) {
      std::vector<uint32_t> tokens = shuffled_tokens(cols);
      tokens.insert(tokens.begin(), {uint32_t(cols), ~0u});  // without a logit
      const auto some = [&] { return random_.next_below(tokens.size() + 1); };
      lists[i] = make_lists(tokens, i & 1 ? some() : 0, i & 2 ? some() : 0, i & 4 ? some() : 0);
      draws[i].changes = lists[i].changes({.repetition = 0.5f + float(random_.next_double()),
                                           .frequency = float(random_.next_normal()),
                                           .presence = float(random_.next_normal())});
    }
  }

  /// With each of them, and all of them, on and off.
  std::vector<Draw> draws(size_t count, size_t cols) {
    std::vector<Draw> draws(count);
    for (size_t i = 0; i < count; ++i) {
      draws[i].temperature = i % 7 == 6 ? 0.0f : 0.05f * std::exp2(float(random_.next_below(8)));
      if (i & 1) draws[i].min_p = i % 3 == 0 ? 1.0f : float(random_.next_double()) / 8;
      if (i & 2) draws[i].top_k = 1 + uint32_t(random_.next_below(cols + 2));
      if (i & 4) draws[i].top_p = 1e-3f + float(random_.next_double()) * 0.999f;
      draws[i].place = random_.next_double();
    }
    return draws;
  }
};

/// Rows whose largest number, of which there can be many, is at either end or anywhere.
Numbers rows_to_search(Random& random, size_t cols) {
  Numbers rows = Numbers::random(random, 14, cols);
  const auto row = [&](size_t r) { return rows.view().row(r); };
  row(1).front() = 2.0f;
  row(2).back() = 2.0f;
  for (float& value : row(3)) value = std::round(3.0f * value);
  for (float& value : row(4)) value = -1.0f - std::abs(value);
  row(5).front() = kNan;
  row(6)[cols / 2] = kNan;
  std::ranges::fill(row(7), kNan);
  std::ranges::fill(row(8), -kInfinity);
  row(8).front() = kNan;
  std::ranges::fill(row(9), kNan);
  row(9).back() = -kInfinity;
  row(10)[cols / 3] = row(10)[cols / 2] = kInfinity;
  for (float& value : row(11)) value = value < 0.0f ? -1.0f : -0.0f;
  row(11).back() = 0.0f;
  for (float& value : row(12)) value = value < 0.0f ? -1.0f : 0.0f;
  row(12)[cols / 3] = -0.0f;
  std::ranges::fill(row(13), std::numeric_limits<float>::lowest());
  row(13)[cols / 2] = -std::numeric_limits<float>::denorm_min();
  return rows;
}

std::vector<uint32_t> largest_of_each(const Numbers& rows) {
  std::vector<uint32_t> columns(rows.rows);
  for (size_t r = 0; r < rows.rows; ++r) {
    const std::span<const float> row = rows.view().row(r);
    uint32_t& best = columns[r];
    for (uint32_t col = 1; col < row.size(); ++col) {
      const bool is_first_number = std::isnan(row[best]) && !std::isnan(row[col]);
      if (row[col] > row[best] || is_first_number) best = col;
    }
  }
  return columns;
}

TEST_P(DrawTest, FindsTheFirstOfTheLargest) {
  for (const size_t cols : {1, 3, 31, 32, 33, 1000, 1025, 50304, 151936}) {
    for (const size_t margin : {0, 3}) {  // the margin is larger
      SCOPED_TRACE(fmt::format("{} columns and {}", cols, margin));
      Numbers rows = rows_to_search(random_, cols);
      const std::vector<uint32_t> expected = largest_of_each(rows);
      const std::vector<Draw> draws(rows.rows);
      const Resident resident(subject_, rows, margin);
      EXPECT_EQ(draw(resident.view(), draws), expected);
      EXPECT_EQ(draw(rows.view(), draws), expected);
      EXPECT_THAT(draw(resident.view().slice_rows(6, 1), {{}}), ElementsAre(expected[6]));
      EXPECT_THAT(draw(resident.view().slice_rows(0, 0), {}), IsEmpty());
    }
  }
}

TEST_P(DrawTest, FindsTheLargestOfManyRows) {
  const Numbers rows = Numbers::random(random_, 64, 2000);
  const Resident resident(subject_, rows);
  EXPECT_EQ(draw(resident.view(), std::vector<Draw>(rows.rows)), largest_of_each(rows));
}

TEST_P(DrawTest, DrawsWhatTheHostWould) {
  for (const size_t cols : {1, 2, 31, 1000, 4097, 50304}) {
    SCOPED_TRACE(fmt::format("{} columns", cols));
    Numbers logits = Numbers::random(random_, 32, cols);
    for (float& logit : logits.data) logit *= 3.0f;
    expect_drawn(logits, draws(32, cols));
  }
}

TEST_P(DrawTest, StrangeLogitsAreDrawnAlike) {
  for (const size_t cols : {1, 3, 100, 5000}) {
    SCOPED_TRACE(fmt::format("{} columns", cols));
    for (int i = 0; i < 4; ++i) {
      const Numbers logits = rows_to_search(random_, cols);
      expect_drawn(logits, draws(logits.rows, cols));
    }
  }
}

/// Rows of which what can be drawn lies everywhere, somewhere or at the ends, close together or far
/// apart.
Numbers rows_to_cut(Random& random, size_t cols) {
  Numbers rows = Numbers::random(random, 8, cols);
  const auto row = [&](size_t r) { return rows.view().row(r); };
  std::ranges::fill(row(0), 1.5f);
  for (size_t col = 0; col < cols; ++col) row(1)[col] = col % 7 == 0 ? 0.0f : -0.01f;
  for (size_t col = 0; col < cols; ++col) row(2)[col] = -1e-4f * static_cast<float>(col);
  std::ranges::fill(row(3).first(cols - cols / 3), kNan);
  std::ranges::fill(row(4).first(cols / 3), -kInfinity);
  std::ranges::fill(row(4).subspan(cols / 3 + cols / 60 + 1), -kInfinity);
  std::ranges::fill(row(5).subspan(cols / 10 + 1), -1000.0f);
  row(6).front() = row(6).back() = 9.0f;
  for (float& logit : row(7)) logit *= 4.0f;
  return rows;
}

/// Each row in turn gets each cut, beside rows with others, and drawn where others were before.
TEST_P(DrawTest, AnyCutOfAnyRowIsDrawnAlike) {
  const double places[] = {0.0, 0.37, std::nextafter(1.0, 0.0)};
  for (const uint32_t cols : {20011, 1001, 63}) {
    SCOPED_TRACE(fmt::format("{} columns", cols));
    const std::vector<Draw> cuts = {
        {.top_k = 1},
        {.top_k = cols - 1},
        {.top_k = cols, .top_p = std::nextafter(1.0f, 0.0f)},
        {.top_p = 1e-6f},
        {.top_p = 0.6f},
        {.top_k = 20, .top_p = 0.8f},
        {.top_k = cols / 2, .top_p = 0.3f},
        {.min_p = 0.5f, .top_k = cols / 3, .top_p = 0.9f},
        {},
    };
    const Numbers logits = rows_to_cut(random_, cols);
    for (size_t turn = 0; turn < cuts.size(); ++turn) {
      std::vector<Draw> draws(logits.rows);
      for (size_t r = 0; r < logits.rows; ++r) {
        draws[r] = cuts[(turn + r) % cuts.size()];
        draws[r].temperature = r == turn ? 0.0f : 0.8f;
        draws[r].place = places[(turn + r) % 3];
      }
      expect_drawn(logits, draws);
    }
  }
}

TEST_P(DrawTest, EqualTokensOfAllPartsAreCutTogether) {
  constexpr size_t kCols = 6000;
  Numbers logits(1, kCols);
  std::ranges::fill(logits.data, -1.0f);
  std::vector<uint32_t> best;
  for (uint32_t col = 0; col < kCols; col += 93) best.push_back(col);
  for (const uint32_t col : best) logits.data[col] = 0.0f;
  const Resident resident(subject_, logits);
  for (size_t i = 0; i < best.size(); i += 4) {
    const double place = (double(i) + 0.5) / double(best.size());
    const Draw one_cut{.temperature = 1.0f, .top_k = 2, .place = place};
    const Draw two_cuts{.temperature = 1.0f, .top_k = 100, .top_p = 0.01f, .place = place};
    EXPECT_THAT(draw(resident.view(), {one_cut}), ElementsAre(best[i]));
    EXPECT_THAT(draw(resident.view(), {two_cuts}), ElementsAre(best[i]));
  }
}

TEST_P(DrawTest, PlacesGoFromTheFirstTokenToTheLast) {
  constexpr size_t kCols = 3000;
  Numbers logits(3, kCols);  // all alike
  const double last = std::nextafter(1.0, 0.0);
  EXPECT_THAT(draw(logits.view(), {{.temperature = 1.0f, .place = 0.0},
                                   {.temperature = 1.0f, .place = 0.5},
                                   {.temperature = 1.0f, .place = last}}),
              ElementsAre(0, kCols / 2, kCols - 1));
  const Resident resident(subject_, logits);
  EXPECT_THAT(draw(resident.view(), {{.temperature = 1.0f, .place = 0.0},
                                     {.temperature = 1.0f, .place = 0.5},
                                     {.temperature = 1.0f, .place = last}}),
              ElementsAre(0, kCols / 2, kCols - 1));
}

TEST_P(DrawTest, LogitsAreChangedBefore) {
  for (const size_t cols : {1, 2, 31, 1000, 4097}) {
    SCOPED_TRACE(fmt::format("{} columns", cols));
    for (Numbers logits : {Numbers::random(random_, 32, cols), rows_to_search(random_, cols)}) {
      for (float& logit : logits.data) logit *= 3.0f;
      std::vector<Draw> changed = draws(logits.rows, cols);
      std::vector<Lists> lists;
      change_some(changed, cols, lists);
      expect_drawn(logits, changed);
      for (Draw& draw : changed) draw.temperature = 0.0f;
      expect_drawn(logits, changed);
    }
  }
}

/// More than travels at once, also of one row.
TEST_P(DrawTest, EveryLogitCanBeChanged) {
  for (const size_t cols : {9001, 70001}) {
    constexpr size_t kRows = 9;
    Numbers logits = Numbers::random(random_, kRows, cols);
    for (float& logit : logits.data) logit *= 0x1p-126f;  // subnormal, many of them
    const Lists all = make_lists(shuffled_tokens(cols), cols, cols, cols / 2);
    const Lists said = make_lists(shuffled_tokens(cols), 0, cols, 0);
    std::vector<Draw> changed = draws(kRows, cols);
    for (size_t r = 0; r < kRows; ++r) {
      const Lists& lists = r % 3 == 0 ? all : said;
      if (r % 3 < 2) changed[r].changes = lists.changes({.repetition = 1.05f, .frequency = 0.1f});
    }
    expect_drawn(logits, changed);
  }
}

TEST_P(DrawTest, WhatIsForbiddenIsNotDrawnWhileThereIsAnythingElse) {
  constexpr size_t kCols = 3000;
  for (const uint32_t kept : {0u, 7u, 1023u, 1024u, 2999u}) {
    std::vector<uint32_t> others(kCols);
    std::iota(others.begin(), others.end(), 0u);
    others.erase(others.begin() + kept);
    others.push_back(others.front());  // twice
    const LogitChanges changes{.forbidden = others};
    Numbers logits = rows_to_search(random_, kCols);
    for (size_t r = 0; r < logits.rows; ++r) logits.view().row(r)[kept] = -50.0f;
    std::vector<Draw> draws(logits.rows, {.changes = changes});
    for (size_t r = 1; r < draws.size(); r += 2) draws[r].temperature = 1.0f;
    EXPECT_THAT(draw(Resident(subject_, logits, 3).view(), draws), Each(kept));
    EXPECT_THAT(draw(logits.view(), draws), Each(kept));
  }
}

/// The sums are the largest that there are.
TEST_P(DrawTest, AVocabularyOfAnySizeIsDrawnFrom) {
  Numbers logits(1, kMaxDrawable);
  for (size_t col = 0; col < kMaxDrawable; col += 3) logits.data[col] = -0.5f;
  expect_drawn(logits, {{.temperature = 100.0f, .top_p = 0.99f, .place = 0.9}});
  expect_drawn(logits, {{.temperature = 100.0f, .place = 0.7}});
}

INSTANTIATE_TEST_SUITE_P(Backends, DrawTest, all_backends(), backend_test_name);

}  // namespace
}  // namespace pregate::compute
