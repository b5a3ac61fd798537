// Queries, keys and values on their way to attention, and what attention makes of them.
#include <cmath>

#include "tests/conformance/compute/resident.h"

namespace pregate::compute {
namespace {

/// Over how many columns queries and keys are normed.
enum class Norm { kNone, kHead, kRow };

struct Case {
  size_t query_heads, kv_heads, dim;
  Norm norm;
  size_t half;  ///< Pairs of a head that turn.
  float limit;
};

std::ostream& operator<<(std::ostream& out, const Case& one) {
  return out << one.query_heads << " heads, " << one.kv_heads << " KV heads of " << one.dim
             << ", norm " << int(one.norm) << ", half " << one.half << ", limit " << one.limit;
}

/// Each thing alone and together; heads of sizes that nothing divides, and more than a warp has
/// lanes for; rows that a warp norms and that take a block, and whose parts take different ones.
constexpr Case kCases[] = {
    {4, 2, 32, Norm::kNone, 0, kInfinity},   {4, 2, 32, Norm::kNone, 0, 0.5f},
    {4, 4, 128, Norm::kNone, 64, kInfinity}, {6, 2, 20, Norm::kNone, 5, kInfinity},
    {3, 1, 33, Norm::kNone, 16, 1.0f},       {8, 2, 128, Norm::kHead, 64, kInfinity},
    {5, 1, 7, Norm::kHead, 3, 1.5f},         {2, 1, 200, Norm::kHead, 50, kInfinity},
    {4, 4, 24, Norm::kRow, 12, kInfinity},   {16, 16, 128, Norm::kRow, 64, kInfinity},
    {12, 4, 60, Norm::kRow, 15, 2.0f},       {40, 4, 130, Norm::kRow, 20, kInfinity},
    {1, 1, 1, Norm::kHead, 0, kInfinity},    {1, 1, 2, Norm::kRow, 1, kInfinity},
};

/// What place_heads() is given, in host memory.
struct Input {
  Numbers qkv, q_norm, k_norm, cos, sin;
};

/// The same wherever it lies.
struct InputView {
  Matrix<float> qkv;
  std::span<const float> q_norm, k_norm;
  Matrix<const float> cos, sin;
};

class HeadsTest : public BackendTest {
 protected:
  static constexpr size_t kNumBlocks = 16, kLayer = 1;
  static constexpr float kNormTolerance = 1e-6f, kTolerance = 1e-5f;

  static size_t q_cols(const Case& one) { return one.query_heads * one.dim; }
  static size_t k_cols(const Case& one) { return one.kv_heads * one.dim; }
  static Matrix<float> columns(const Matrix<float>& rows, size_t first, size_t count) {
    return {rows.data + first, rows.rows, count, rows.stride};
  }

  Input make_input(const Case& one, size_t num_rows) {
    const auto weight = [&](size_t heads) {
      const size_t width = one.norm == Norm::kNone ? 0 : one.norm == Norm::kHead ? 1 : heads;
      return Numbers::random(random_, 1, width * one.dim);
    };
    return {.qkv = Numbers::random(random_, num_rows, q_cols(one) + 2 * k_cols(one)),
            .q_norm = weight(one.query_heads),
            .k_norm = weight(one.kv_heads),
            .cos = Numbers::random(random_, num_rows, one.half),
            .sin = Numbers::random(random_, num_rows, one.half)};
  }

  static std::unique_ptr<KvStorage> allocate(Subject& subject, const Case& one, DType dtype) {
    return subject->allocate_kv({kLayer + 1, one.kv_heads, one.dim, dtype}, kNumBlocks).value();
  }

  /// Leaves queries in the first columns.
  static void place(Subject& subject, KvStorage& kv, const Case& one, const InputView& input,
                    std::span<const SequenceRows> sequences) {
    const HeadOptions options{.layer = kLayer,
                              .q_norm = input.q_norm,
                              .k_norm = input.k_norm,
                              .epsilon = 1e-5f,
                              .limit = one.limit,
                              .cos = input.cos,
                              .sin = input.sin};
    subject->place_heads(kv, options, sequences, columns(input.qkv, 0, q_cols(one)),
                         columns(input.qkv, q_cols(one), k_cols(one)),
                         columns(input.qkv, q_cols(one) + k_cols(one), k_cols(one)));
  }

  struct Result {
    Numbers q, attended;
    bool operator==(const Result&) const = default;
  };

  static Numbers first_columns(const Numbers& rows, size_t count) {
    Numbers first(rows.rows, count);
    for (size_t r = 0; r < rows.rows; ++r) {
      std::ranges::copy(rows.view().row(r).first(count), first.view().row(r).begin());
    }
    return first;
  }

  /// By attention of these queries to keys and values that were placed.
  static Numbers attend(Subject& subject, const KvStorage& kv, const Case& one, const Numbers& q,
                        std::span<const SequenceRows> sequences) {
    Numbers out(q.rows, q.cols);
    const float scale = 1.0f / std::sqrt(float(one.dim));
    subject->attention(kv, {.layer = kLayer, .num_heads = one.query_heads, .scale = scale},
                       sequences, q.view(), out.view());
    return out;
  }

  static Result on_host(Subject& subject, const Case& one, Input input,
                        std::span<const SequenceRows> sequences, DType dtype) {
    const auto kv = allocate(subject, one, dtype);
    place(subject, *kv, one,
          {input.qkv.view(), input.q_norm.data, input.k_norm.data, input.cos.view(),
           input.sin.view()},
          sequences);
    const Numbers q = first_columns(input.qkv, q_cols(one));
    return {q, attend(subject, *kv, one, q, sequences)};
  }

  static Result resident(Subject& subject, const Case& one, const Input& input,
                         std::span<const SequenceRows> sequences, DType dtype) {
    const auto kv = allocate(subject, one, dtype);
    Resident qkv(subject, input.qkv, 3);
    const Resident q_norm(subject, input.q_norm), k_norm(subject, input.k_norm);
    const Resident cos(subject, input.cos), sin(subject, input.sin);
    place(subject, *kv, one, {qkv.view(), q_norm.vector(), k_norm.vector(), cos.view(), sin.view()},
          sequences);
    const Numbers q = first_columns(qkv.read(), q_cols(one));
    return {q, attend(subject, *kv, one, q, sequences)};
  }

  const std::vector<uint32_t> first_blocks_ = {9, 2}, second_blocks_ = {4};
  const SequenceRows both_[2] = {{0, 20, 0, first_blocks_}, {20, 5, 0, second_blocks_}};
};

TEST_P(HeadsTest, AgreeWithTheReference) {
  for (const Case& one : kCases) {
    SCOPED_TRACE(testing::Message() << one);
    const Input input = make_input(one, 25);
    const Result actual = on_host(subject_, one, input, both_, DType::kF32);
    const Result expected = on_host(reference_, one, input, both_, DType::kF32);
    expect_close(actual.q, expected.q, one.norm == Norm::kNone ? 0.0f : kNormTolerance);
    expect_close(actual.attended, expected.attended, kTolerance);
  }
}

TEST_P(HeadsTest, LieInRowMemoryAsOnTheHost) {
  for (const Case& one : kCases) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      SCOPED_TRACE(testing::Message() << one << ", " << dtype_bytes(dtype) << " bytes a number");
      const Input input = make_input(one, 25);
      EXPECT_EQ(resident(subject_, one, input, both_, dtype),
                on_host(subject_, one, input, both_, dtype));
    }
  }
}

/// Rounded, keys and values are those of the reference to the bit where there is no norm.
TEST_P(HeadsTest, AreRoundedAlike) {
  for (const Case& one : kCases) {
    if (one.norm != Norm::kNone) continue;
    SCOPED_TRACE(testing::Message() << one);
    const Input input = make_input(one, 25);
    expect_close(on_host(subject_, one, input, both_, DType::kBf16).attended,
                 on_host(reference_, one, input, both_, DType::kBf16).attended, kTolerance);
  }
}

TEST_P(HeadsTest, OfARowAreItsOwn) {
  for (const Case& one : kCases) {
    SCOPED_TRACE(testing::Message() << one);
    const Input input = make_input(one, 25);
    const Result together = resident(subject_, one, input, both_, DType::kF32);
    Input alone = input;
    alone.qkv = input.qkv.row(20);
    alone.cos = input.cos.row(20);
    alone.sin = input.sin.row(20);
    const SequenceRows row{0, 1, 0, second_blocks_};
    const Result result = resident(subject_, one, alone, {&row, 1}, DType::kF32);
    EXPECT_EQ(result.q, together.q.row(20));
    EXPECT_EQ(result.attended, together.attended.row(20));
  }
}

/// One after the other, to where the next chunk's rows and other sequences have been.
TEST_P(HeadsTest, StoreWholeTokens) {
  const Case one{2, 1, 19, Norm::kHead, 4, kInfinity};
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const auto kv = allocate(subject_, one, dtype);
    const auto place_all = [&](Input input) {
      place(subject_, *kv, one,
            {input.qkv.view(), input.q_norm.data, input.k_norm.data, input.cos.view(),
             input.sin.view()},
            both_);
      return attend(subject_, *kv, one, first_columns(input.qkv, q_cols(one)), both_);
    };
    Input bad = make_input(one, 25);
    std::ranges::fill(bad.qkv.data, kNan);
    place_all(bad);
    const Input input = make_input(one, 25);
    EXPECT_EQ(place_all(input), on_host(subject_, one, input, both_, dtype).attended);
  }
}

TEST_P(HeadsTest, ClipLeavesNoNumberBeyondTheLimit) {
  const Case one{2, 2, 8, Norm::kNone, 0, 0.25f};
  Input input = make_input(one, 25);
  input.qkv.view().row(3)[0] = kInfinity;
  input.qkv.view().row(3)[1] = -kInfinity;
  input.qkv.view().row(4)[2] = kNan;
  const Numbers q = resident(subject_, one, input, both_, DType::kF32).q;
  EXPECT_EQ(q.view().row(3)[0], 0.25f);
  EXPECT_EQ(q.view().row(3)[1], -0.25f);
  EXPECT_TRUE(std::isnan(q.view().row(4)[2]));
}

INSTANTIATE_TEST_SUITE_P(Backends, HeadsTest, all_backends(), backend_test_name);

}  // namespace
}  // namespace pregate::compute
