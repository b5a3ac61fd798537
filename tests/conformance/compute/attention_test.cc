#include <algorithm>
#include <cmath>
#include <numeric>

#include "compute/number.h"
#include "tests/conformance/compute/fixture.h"

namespace pregate::compute {
namespace {

struct Heads {
  size_t query, kv, dim;
};

/// Sequences whose rows follow one another in a step, with blocks scattered over the cache.
struct Step {
  std::vector<std::vector<uint32_t>> blocks;
  std::vector<SequenceRows> sequences;
  size_t num_rows = 0;
};

class AttentionTest : public ::testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  static constexpr size_t kNumBlocks = 64;
  static constexpr size_t kNumLayers = 2;

  std::string name() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }

  /// Sequences of the given lengths from position 0.
  Step make_step(const std::vector<size_t>& lengths) {
    std::vector<uint32_t> free(kNumBlocks);
    std::iota(free.begin(), free.end(), 0u);
    for (size_t i = free.size() - 1; i > 0; --i)
      std::swap(free[i], free[random_.next_below(i + 1)]);
    Step step;
    for (const size_t length : lengths) {
      const size_t count = (length + kKvBlockTokens - 1) / kKvBlockTokens;
      step.blocks.emplace_back(free.end() - static_cast<ptrdiff_t>(count), free.end());
      free.resize(free.size() - count);
    }
    for (size_t i = 0; i < lengths.size(); ++i) {
      step.sequences.push_back({step.num_rows, lengths[i], 0, step.blocks[i]});
      step.num_rows += lengths[i];
    }
    return step;
  }

  std::unique_ptr<KvStorage> allocate(Subject& subject, const Heads& heads) const {
    return subject->allocate_kv({kNumLayers, heads.kv, heads.dim, dtype()}, kNumBlocks).value();
  }

  AttentionOptions options(const Heads& heads, size_t window = 0) const {
    return {1, heads.query, 1.0f / std::sqrt(static_cast<float>(heads.dim)), window};
  }

  /// Stores all rows of the step and attends with all of them.
  Numbers run(Subject& subject, const Heads& heads, const Step& step, const Numbers& qkv,
              size_t window = 0) const {
    const auto kv = allocate(subject, heads);
    return run_rows(subject, *kv, options(heads, window), step.sequences, qkv);
  }

  /// qkv [n, (query + 2 kv) * dim], as a fused projection would give it.
  Numbers run_rows(Subject& subject, KvStorage& kv, const AttentionOptions& attention_options,
                   std::span<const SequenceRows> sequences, const Numbers& qkv) const {
    store_rows(subject, kv, attention_options, sequences, qkv);
    return attend_rows(subject, kv, attention_options, sequences, qkv);
  }

  void store_rows(Subject& subject, KvStorage& kv, const AttentionOptions& attention_options,
                  std::span<const SequenceRows> sequences, Numbers qkv) const {
    const size_t q_cols = attention_options.num_heads * kv.shape().head_dim;
    const size_t kv_cols = kv.shape().num_kv_heads * kv.shape().head_dim;
    const auto part = [&](size_t first, size_t count) {
      return Matrix<float>(qkv.data.data() + first, qkv.rows, count, qkv.cols);
    };
    subject->place_heads(kv, {.layer = attention_options.layer}, sequences, part(0, q_cols),
                         part(q_cols, kv_cols), part(q_cols + kv_cols, kv_cols));
  }

  Numbers attend_rows(Subject& subject, const KvStorage& kv,
                      const AttentionOptions& attention_options,
                      std::span<const SequenceRows> sequences, const Numbers& qkv) const {
    Numbers out(qkv.rows, attention_options.num_heads * kv.shape().head_dim);
    const Matrix<const float> q(qkv.data.data(), qkv.rows, out.cols, qkv.cols);
    subject->attention(kv, attention_options, sequences, q, out.view());
    return out;
  }

  Numbers random_qkv(const Heads& heads, size_t rows) {
    return Numbers::random(random_, rows, (heads.query + 2 * heads.kv) * heads.dim);
  }

  /// f32 sums in another order and an exponential a few units in the last place off; keys and
  /// values are rounded alike.
  static constexpr float kTolerance = 1e-5f;

  Subject subject_{name()};
  Subject reference_{"reference"};
  Random random_{30};
};

TEST_P(AttentionTest, AgreesWithTheReference) {
  const Heads shapes[] = {{1, 1, 64}, {4, 4, 80},  {6, 2, 20}, {8, 1, 128},
                          {5, 5, 33}, {2, 1, 200}, {40, 1, 16}};
  for (const Heads& heads : shapes) {
    SCOPED_TRACE(fmt::format("{} heads, {} KV heads of {}", heads.query, heads.kv, heads.dim));
    const Step step = make_step({1, 150, 16, 65, 17});
    const Numbers qkv = random_qkv(heads, step.num_rows);
    expect_close(run(subject_, heads, step, qkv), run(reference_, heads, step, qkv), kTolerance);
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceInAWindow) {
  const Heads heads{6, 2, 24};
  for (const size_t window : {1, 2, 16, 50, 64, 100, 1000}) {
    SCOPED_TRACE(window);
    const Step step = make_step({200, 3, 70});
    const Numbers qkv = random_qkv(heads, step.num_rows);
    expect_close(run(subject_, heads, step, qkv, window), run(reference_, heads, step, qkv, window),
                 kTolerance);
  }
}

TEST_P(AttentionTest, LastRowsOfLongContextsAgreeWithTheReference) {
  for (const Heads& heads : {Heads{4, 4, 24}, Heads{8, 2, 16}, Heads{9, 3, 36}}) {
    const Step step = make_step({650, 5, 290});
    const Numbers qkv = random_qkv(heads, step.num_rows);
    std::vector<SequenceRows> last = step.sequences;
    for (SequenceRows& rows : last) {
      const size_t skipped = rows.num_rows - 1;
      rows = {rows.first_row + skipped, 1, rows.first_position + skipped, rows.blocks};
    }
    for (const size_t window : {0, 129, 400}) {
      SCOPED_TRACE(fmt::format("{} heads, window {}", heads.query, window));
      const auto run_last = [&](Subject& subject) {
        const auto kv = allocate(subject, heads);
        store_rows(subject, *kv, options(heads), step.sequences, qkv);
        return attend_rows(subject, *kv, options(heads, window), last, qkv);
      };
      expect_close(run_last(subject_), run_last(reference_), kTolerance);
    }
  }
}

/// Runs one sequence in pieces of the given sizes and returns all its rows.
TEST_P(AttentionTest, ChunksOfAPromptGiveTheBitsOfTheWhole) {
  const Heads heads{6, 2, 40};
  const Step step = make_step({190});
  const Numbers qkv = random_qkv(heads, step.num_rows);
  for (const size_t window : {0, 30, 100}) {
    const Numbers whole = run(subject_, heads, step, qkv, window);
    for (const size_t chunk : {1, 7, 16, 64, 100}) {
      const auto kv = allocate(subject_, heads);
      for (size_t first = 0; first < qkv.rows; first += chunk) {
        const size_t count = std::min(chunk, qkv.rows - first);
        Numbers rows(count, qkv.cols);
        std::copy_n(qkv.view().row(first).data(), count * qkv.cols, rows.data.begin());
        const SequenceRows sequence{0, count, first, step.blocks[0]};
        const Numbers out = run_rows(subject_, *kv, options(heads, window), {&sequence, 1}, rows);
        for (size_t r = 0; r < count; ++r) {
          ASSERT_EQ(out.row(r), whole.row(first + r))
              << "chunks of " << chunk << ", row " << first + r << ", window " << window;
        }
      }
    }
  }
}

TEST_P(AttentionTest, OtherSequencesOfTheStepChangeNothing) {
  const Heads heads{4, 2, 32};
  const Step step = make_step({33, 90, 5});
  const Numbers qkv = random_qkv(heads, step.num_rows);
  const Numbers together = run(subject_, heads, step, qkv);
  for (const SequenceRows& sequence : step.sequences) {
    Numbers rows(sequence.num_rows, qkv.cols);
    std::copy_n(qkv.view().row(sequence.first_row).data(), rows.data.size(), rows.data.begin());
    SequenceRows alone = sequence;
    alone.first_row = 0;
    const auto kv = allocate(subject_, heads);
    const Numbers out = run_rows(subject_, *kv, options(heads), {&alone, 1}, rows);
    for (size_t r = 0; r < alone.num_rows; ++r) {
      ASSERT_EQ(out.row(r), together.row(sequence.first_row + r));
    }
  }
}

TEST_P(AttentionTest, TheNumberOfThreadsChangesNothing) {
  Subject one(name(), 1), three(name(), 3);
  const Heads heads{6, 3, 48};
  const Step step = make_step({100, 20});
  const Numbers qkv = random_qkv(heads, step.num_rows);
  EXPECT_EQ(run(one, heads, step, qkv), run(three, heads, step, qkv));
}

TEST_P(AttentionTest, WhatABlockHeldBeforeDoesNotShow) {
  const Heads heads{2, 1, 16};
  const Step step = make_step({21});
  const auto kv = allocate(subject_, heads);
  // The blocks' earlier owner left NaN everywhere.
  Numbers bad = random_qkv(heads, 32);
  std::ranges::fill(bad.data, std::nanf(""));
  const SequenceRows earlier{0, 32, 0, step.blocks[0]};
  run_rows(subject_, *kv, options(heads), {&earlier, 1}, bad);
  const Numbers qkv = random_qkv(heads, 21);
  EXPECT_EQ(run_rows(subject_, *kv, options(heads), step.sequences, qkv),
            run(subject_, heads, step, qkv));
}

TEST_P(AttentionTest, BlocksBeforeTheWindowAreNotRead) {
  const Heads heads{2, 2, 16};
  const Step step = make_step({60});
  const Numbers qkv = random_qkv(heads, 60);
  const Numbers whole = run(subject_, heads, step, qkv, 20);
  const auto kv = allocate(subject_, heads);
  run_rows(subject_, *kv, options(heads, 20), step.sequences, qkv);
  // Positions 40 ... 59 need blocks 1 to 3 only.
  std::vector<uint32_t> blocks = step.blocks[0];
  blocks[0] = 1000000;
  Numbers last(20, qkv.cols);
  std::copy_n(qkv.view().row(40).data(), last.data.size(), last.data.begin());
  const SequenceRows sequence{0, 20, 40, blocks};
  const Numbers out = run_rows(subject_, *kv, options(heads, 20), {&sequence, 1}, last);
  for (size_t r = 0; r < 20; ++r) EXPECT_EQ(out.row(r), whole.row(40 + r));
}

TEST_P(AttentionTest, LayersAreApart) {
  const Heads heads{1, 1, 8};
  const Step step = make_step({10});
  const auto kv = allocate(subject_, heads);
  const Numbers first = random_qkv(heads, 10), second = random_qkv(heads, 10);
  AttentionOptions layer0 = options(heads);
  layer0.layer = 0;
  const Numbers expected = run_rows(subject_, *kv, layer0, step.sequences, first);
  run_rows(subject_, *kv, options(heads), step.sequences, second);
  EXPECT_EQ(attend_rows(subject_, *kv, layer0, step.sequences, first), expected);
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  const Heads heads{1, 1, 16};
  const Step step = make_step({40});
  Numbers qkv = random_qkv(heads, 40);
  for (size_t i = 0; i < qkv.data.size(); ++i) {
    if (i % qkv.cols < 2 * heads.dim) qkv.data[i] *= 100.0f;  // queries and keys
  }
  expect_close(run(subject_, heads, step, qkv), run(reference_, heads, step, qkv), 1e-3f);
}

TEST_P(AttentionTest, RefusesShapesItCannotStore) {
  for (const KvShape& shape : {KvShape{1, 1, 0, dtype()}, KvShape{0, 1, 8, dtype()},
                               KvShape{1, 0, 8, dtype()}, KvShape{1, 1, 8, DType::kF16}}) {
    const auto kv = subject_->allocate_kv(shape, 4);
    ASSERT_FALSE(kv);
    EXPECT_EQ(kv.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_GE(subject_->kv_block_bytes({2, 3, 8, dtype()}),
            2 * 2 * 3 * 8 * kKvBlockTokens * dtype_bytes(dtype()));
}

std::string attention_test_name(
    const ::testing::TestParamInfo<std::tuple<std::string, DType>>& info) {
  const auto& [backend, dtype] = info.param;
  return instance_name(backend) + (dtype == DType::kF32 ? "_f32" : "_bf16");
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionTest,
                         ::testing::Combine(all_backends(),
                                            ::testing::Values(DType::kF32, DType::kBf16)),
                         attention_test_name);

}  // namespace
}  // namespace pregate::compute
