// Operations on rows that stay in a back end's row memory do what they do to rows of the host.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "tests/conformance/compute/resident.h"

namespace pregate::compute {
namespace {

class RowMemoryTest : public BackendTest {
 protected:
  Numbers random(size_t rows, size_t cols) { return Numbers::random(random_, rows, cols); }
  std::vector<std::byte> bytes_of(const RowMemory& memory, size_t count) {
    std::vector<std::byte> bytes(count);
    subject_->read(bytes.data(), memory.data(), count);
    return bytes;
  }
};

TEST_P(RowMemoryTest, KeepsWhatIsWrittenPieceByPiece) {
  const auto memory = subject_->allocate_rows(100).value();
  const std::vector<uint8_t> first(37, 1), second(63, 2);
  subject_->write(memory->data(), first.data(), 37);
  subject_->write(memory->data() + 37, second.data(), 63);
  std::vector<uint8_t> read(64);
  subject_->read(read.data(), memory->data() + 36, 64);
  EXPECT_EQ(read.front(), 1);
  EXPECT_EQ(std::vector<uint8_t>(read.begin() + 1, read.end()), second);
  subject_->read(nullptr, memory->data(), 0);
}

TEST_P(RowMemoryTest, KeepsMuch) {
  std::vector<uint32_t> numbers(3'000'001);
  std::iota(numbers.begin(), numbers.end(), 7u);
  const size_t bytes = numbers.size() * sizeof(uint32_t);
  const auto memory = subject_->allocate_rows(bytes).value();
  subject_->write(memory->data(), numbers.data(), bytes);
  std::vector<uint32_t> read(numbers.size());
  subject_->read(read.data(), memory->data(), bytes);
  EXPECT_EQ(read, numbers);
}

TEST_P(RowMemoryTest, ABufferGrowsAndKeepsWhatItHas) {
  RowBuffer buffer(*subject_);
  HostCopy copy(*subject_);
  const Matrix<float> rows = buffer.take_rows(4, 6).value();
  const Matrix<float> written = copy.begin(rows);
  std::iota(written.data, written.data + 24, 0.0f);
  copy.send(rows);
  const Matrix<const float> fewer = copy.read(buffer.take_rows(2, 6).value());
  EXPECT_EQ(fewer.row(1)[5], 11.0f);
  EXPECT_TRUE(buffer.take_rows(400, 6));
}

TEST_P(RowMemoryTest, NormsAgreeWithTheReference) {
  for (const size_t width : {1, 20, 100, 400}) {
    const Numbers x = random(70, 400), weight = random(1, width);
    Numbers expected(70, 400);
    reference_->rms_norm(x.view(), weight.data, 1e-5f, expected.view());
    const Resident from(subject_, x, 3), factors(subject_, weight);
    Resident to(subject_, expected, 5);
    subject_->rms_norm(from.view(), factors.vector(), 1e-5f, to.view());
    expect_close(to.read(), expected, 1e-6f);
    Resident in_place(subject_, x);
    subject_->rms_norm(in_place.view(), factors.vector(), 1e-5f, in_place.view());
    EXPECT_EQ(in_place.read(), to.read());
    Resident alone(subject_, x.row(13));
    subject_->rms_norm(alone.view(), factors.vector(), 1e-5f, alone.view());
    EXPECT_EQ(alone.read(), to.read().row(13));
  }
}

TEST_P(RowMemoryTest, AddsLikeTheReference) {
  for (const size_t cols : {1, 30, 64}) {
    const Numbers x = random(9, cols), gates = random(9, 1);
    Numbers sum = random(9, cols), gated = sum;
    Resident resident_sum(subject_, sum, 1), resident_gated(subject_, gated);
    const Resident from(subject_, x, 2), factors(subject_, gates);
    subject_->add(from.view(), resident_sum.view());
    subject_->add_gated(from.view(), factors.view(), resident_gated.view());
    reference_->add(x.view(), sum.view());
    reference_->add_gated(x.view(), gates.view(), gated.view());
    EXPECT_EQ(resident_sum.read(), sum);
    expect_close(resident_gated.read(), gated, 1e-6f);
  }
}

/// The same bits as one after the other.
TEST_P(RowMemoryTest, NormsAndEncodesAtOnceLikeOneAfterTheOther) {
  for (const size_t cols : {4, 60, 130, 512, 515, 2048, 5000}) {
    const Numbers numbers = random(3, cols), added = random(3, cols), weight = random(1, cols);
    const Resident scale(subject_, weight);
    for (const WeightFormat format : kFormats) {
      const size_t bytes = 3 * encoded_row_bytes(format, cols);
      for (const bool has_addend : {false, true}) {
        SCOPED_TRACE(fmt::format("{} columns, {}, {}", cols, to_string(format), has_addend));
        Resident x(subject_, numbers, 4), y(subject_, added, 8), addend(subject_, added, 4);
        Resident expected_x(subject_, numbers, 4), expected_y(subject_, added, 8);
        const auto out = subject_->allocate_rows(bytes).value();
        const auto expected_out = subject_->allocate_rows(bytes).value();
        subject_->norm_encode(x.view(), has_addend ? addend.view() : Matrix<float>(),
                              scale.vector(), 1e-5f, y.view(), format, out->data());
        if (has_addend) subject_->add(addend.view(), expected_x.view());
        subject_->rms_norm(expected_x.view(), scale.vector(), 1e-5f, expected_y.view());
        subject_->encode(expected_y.view(), format, expected_out->data());
        EXPECT_EQ(x.read(), expected_x.read());
        EXPECT_EQ(y.read(), expected_y.read());
        EXPECT_EQ(bytes_of(*out, bytes), bytes_of(*expected_out, bytes));
        subject_->norm_encode(x.view(), {}, scale.vector(), 1e-5f, x.view(), format, out->data());
        subject_->rms_norm(expected_x.view(), scale.vector(), 1e-5f, expected_x.view());
        EXPECT_EQ(x.read(), expected_x.read());
      }
    }
  }
}

TEST_P(RowMemoryTest, TakesRowsInAnyOrder) {
  for (const size_t cols : {5, 64}) {
    const Numbers x = random(9, cols);
    const std::vector<uint32_t> rows = {8, 0, 3, 3};
    Numbers expected(4, cols);
    reference_->take_rows(x.view(), rows, expected.view());
    const Resident from(subject_, x, 3);
    Resident to(subject_, Numbers(4, cols), 2);
    subject_->take_rows(from.view(), rows, to.view());
    EXPECT_EQ(to.read(), expected);
    EXPECT_EQ(expected.row(3), x.row(3));
    subject_->take_rows(from.view(), {}, to.view().slice_rows(0, 0));
  }
}

/// Logits with equal numbers, zeros of both signs, infinities and NaN among them.
Numbers random_logits(Random& random, size_t rows, size_t cols) {
  Numbers logits = Numbers::random(random, rows, cols);
  for (float& value : logits.view().row(0)) value = std::round(value);
  for (float& value : logits.view().row(1)) value = value < 0.5f ? -kInfinity : 0.0f;
  for (size_t i = 0; i < cols; i += 2) logits.view().row(1)[i] = -0.0f;
  for (size_t i = 0; i < cols; i += 3) logits.view().row(2)[i] = kNan;
  std::ranges::fill(logits.view().row(3), kNan);
  return logits;
}

TEST_P(RowMemoryTest, ChoosesTheExpertsThatTheReferenceChooses) {
  for (const size_t num_experts : {1, 8, 60, 128, 1500}) {
    for (const size_t k :
         {size_t{1}, std::min<size_t>(8, num_experts), std::min<size_t>(200, num_experts)}) {
      for (const bool normalize : {false, true}) {
        SCOPED_TRACE(fmt::format("{} of {}{}", k, num_experts, normalize ? ", normalised" : ""));
        const Numbers logits = random_logits(random_, 9, num_experts);
        std::vector<uint32_t> ids(9 * k, 77), host_ids(9 * k), expected(9 * k);
        Numbers gates(9, k), host_gates(9, k), expected_gates(9, k);
        const Resident resident(subject_, logits, 3);
        subject_->choose_top_k(resident.view(), {k, normalize}, {ids, gates.data});
        subject_->choose_top_k(logits.view(), {k, normalize}, {host_ids, host_gates.data});
        reference_->choose_top_k(logits.view(), {k, normalize}, {expected, expected_gates.data});
        EXPECT_EQ(ids, expected);
        EXPECT_EQ(host_ids, expected);
        for (const size_t row : {0, 4, 8}) {  // without infinities
          expect_close(gates.row(row), expected_gates.row(row), 1e-5f);
          expect_close(host_gates.row(row), expected_gates.row(row), 1e-5f);
        }
      }
    }
  }
}

TEST_P(RowMemoryTest, ChoosesAmongMoreExpertsThanAnyModelHas) {
  const Numbers logits = random(2, 5000);
  std::vector<uint32_t> ids(6), expected(6);
  std::vector<float> gates(6);
  const Resident resident(subject_, logits);
  subject_->choose_top_k(resident.view(), {3, true}, {ids, gates});
  reference_->choose_top_k(logits.view(), {3, true}, {expected, gates});
  EXPECT_EQ(ids, expected);
}

/// What a back end keeps for itself grows from call to call, and rows are given back, while nobody
/// has waited for what was begun.
TEST_P(RowMemoryTest, WhatIsUnderWayKeepsItsMemory) {
  const auto packed = subject_->pack(random(50, 140).source(), WeightFormat::kBf16).value();
  std::vector<Encoded> rows;
  for (const size_t count : {2, 40, 400}) {
    rows.emplace_back(*subject_, random(count, 140), WeightFormat::kBf16);
  }
  std::vector<ResidentRows> resident;
  std::vector<Resident> results;
  for (const Encoded& x : rows) {
    resident.emplace_back(subject_, x);
    results.emplace_back(subject_, Numbers(x.rows, 50));
    subject_->linear(resident.back().view(), *packed, {}, results.back().view());
  }
  const Numbers more = random(400, 50);
  {
    const Resident addend(subject_, more);
    subject_->add(addend.view(), results.back().view());
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    Numbers expected(rows[i].rows, 50);
    subject_->linear(rows[i].view(), *packed, {}, expected.view());
    if (i + 1 == rows.size()) reference_->add(more.view(), expected.view());
    EXPECT_EQ(results[i].read(), expected);
  }
}

TEST_P(RowMemoryTest, HostRowsTakeWhatIsRead) {
  const Numbers x = random(5, 7);
  const Resident resident(subject_, x);
  HostBuffer buffer(*subject_);
  const Matrix<float> small = buffer.take_rows(1, 7), rows = buffer.take_rows(5, 7);
  EXPECT_NE(small.rows, rows.rows);
  subject_->read(rows.data, resident.view().data, x.data.size() * sizeof(float));
  EXPECT_TRUE(std::ranges::equal(std::span(rows.data, x.data.size()), x.data));
}

INSTANTIATE_TEST_SUITE_P(Backends, RowMemoryTest, all_backends(), backend_test_name);

class RowMemoryFormats : public FormatTest {};

TEST_P(RowMemoryFormats, EncodesTheSameBits) {
  for (const size_t cols : {1, 127, 300}) {
    const Numbers x = Numbers::random(random_, 7, cols);
    const Encoded expected(*subject_, x, format());
    const Resident from(subject_, x, 5);
    const auto memory = subject_->allocate_rows(expected.bytes.size()).value();
    subject_->encode(from.view(), format(), memory->data());
    std::vector<std::byte> actual(expected.bytes.size());
    subject_->read(actual.data(), memory->data(), actual.size());
    EXPECT_EQ(actual, expected.bytes);
  }
}

TEST_P(RowMemoryFormats, SeveralMapsGiveWhatEachGivesAlone) {
  // A row in f32 may have been multiplied by the host.
  const float tolerance = format() == WeightFormat::kF32 ? 1e-5f : 0.0f;
  const Encoded x(*subject_, Numbers::random(random_, 21, 150), format());
  const ResidentRows resident(subject_, x);
  const Numbers bias = Numbers::random(random_, 1, 37);
  const Resident resident_bias(subject_, bias);
  const auto wide = subject_->pack(Numbers::random(random_, 200, 150).source(), format()).value();
  const auto narrow = subject_->pack(Numbers::random(random_, 37, 150).source(), format()).value();
  Numbers wide_alone(21, 200), narrow_alone(21, 37);
  subject_->linear(x.view(), *wide, {}, wide_alone.view());
  subject_->linear(x.view(), *narrow, bias.data, narrow_alone.view());

  Resident first(subject_, Numbers(21, 200), 3), second(subject_, Numbers(21, 37));
  const LinearMap maps[] = {{wide.get(), {}, first.view()},
                            {narrow.get(), resident_bias.vector(), second.view()}};
  subject_->linear_all(resident.view(), maps);
  expect_close(first.read(), wide_alone, tolerance);
  expect_close(second.read(), narrow_alone, tolerance);

  Numbers fetched(21, 200);  // from row memory to the host's
  subject_->linear(resident.view(), *wide, {}, fetched.view());
  expect_close(fetched, wide_alone, tolerance);
}

TEST_P(RowMemoryFormats, ExpertsGiveTheSameBits) {
  const size_t hidden = 70, intermediate = 90;
  const Numbers gate = Numbers::random(random_, intermediate, hidden);
  const Numbers down = Numbers::random(random_, hidden, intermediate);
  const auto expert =
      subject_->pack_expert({gate.source(), gate.source(), down.source()}, format()).value();
  const Encoded x(*subject_, Numbers::random(random_, 12, hidden), format());
  const std::vector<uint32_t> rows = {3, 0, 11, 7}, out_rows = {0, 2, 5, 5};
  const std::vector<float> gates = {0.5f, 1.0f, -0.25f, 2.0f};
  const ExpertTask task{expert.get(), rows, out_rows, gates};
  Numbers expected(6, hidden);
  subject_->experts(x.view(), {&task, 1}, expected.view());
  const ResidentRows resident(subject_, x);
  Resident out(subject_, Numbers(6, hidden));
  subject_->experts(resident.view(), {&task, 1}, out.view());
  EXPECT_EQ(out.read(), expected);
  subject_->experts(resident.view(), {}, out.view());
  EXPECT_EQ(out.read(), Numbers(6, hidden));
}

INSTANTIATE_TEST_SUITE_P(Backends, RowMemoryFormats, all_formats(), format_test_name);

class RowMemoryAttention : public BackendTest {
 protected:
  static constexpr size_t kHeads = 6, kKvHeads = 2, kHeadDim = 20, kNumLayers = 3;
  static constexpr size_t kQueryCols = kHeads * kHeadDim, kKvCols = kKvHeads * kHeadDim;

  static Matrix<float> columns(const Matrix<float>& rows, size_t first, size_t count) {
    return {rows.data + first, rows.rows, count, rows.stride};
  }

  /// Stores all rows in each layer and attends with them; `attended` is what becomes of `out`, of
  /// each layer.
  std::vector<Numbers> run(std::span<const SequenceRows> sequences, Matrix<float> qkv,
                           Matrix<float> out, const std::function<Numbers()>& attended) {
    std::vector<Numbers> layers;
    for (size_t layer = 0; layer < kNumLayers; ++layer) {
      const Matrix<float> q = columns(qkv, 0, kQueryCols);
      subject_->place_heads(*kv_, {.layer = layer}, sequences, q, columns(qkv, kQueryCols, kKvCols),
                            columns(qkv, kQueryCols + kKvCols, kKvCols));
      const AttentionOptions options{layer, kHeads, 0.2f, layer == 1 ? size_t{9} : 0};
      subject_->attention(*kv_, options, sequences, q, out);
      layers.push_back(attended());
    }
    return layers;
  }

  std::vector<Numbers> on_host(std::span<const SequenceRows> sequences, Numbers qkv) {
    Numbers out(qkv.rows, kQueryCols);
    return run(sequences, qkv.view(), out.view(), [&] { return out; });
  }

  std::vector<Numbers> resident(std::span<const SequenceRows> sequences, const Numbers& qkv) {
    const Resident rows(subject_, qkv);
    Resident out(subject_, Numbers(qkv.rows, kQueryCols), 4);
    return run(sequences, rows.view(), out.view(), [&] { return out.read(); });
  }

  std::unique_ptr<KvStorage> kv_ =
      subject_->allocate_kv({kNumLayers, kKvHeads, kHeadDim, DType::kBf16}, 16).value();
};

TEST_P(RowMemoryAttention, GivesTheSameBitsStepAfterStep) {
  std::vector<uint32_t> first = {3, 9, 1}, second = {7, 15};
  const auto expect_same = [&](std::span<const SequenceRows> sequences, size_t num_rows) {
    const Numbers qkv = Numbers::random(random_, num_rows, kQueryCols + 2 * kKvCols);
    const auto expected = on_host(sequences, qkv);
    EXPECT_EQ(resident(sequences, qkv), expected);
  };
  const SequenceRows prefill[] = {{0, 30, 0, first}, {30, 17, 0, second}};
  expect_same(prefill, 47);
  const SequenceRows decode[] = {{0, 1, 30, first}, {1, 1, 16, second}};
  expect_same(decode, 2);
  second[1] = 4;  // as long and as far as before, in another block
  expect_same(decode, 2);
}

INSTANTIATE_TEST_SUITE_P(Backends, RowMemoryAttention, all_backends(), backend_test_name);

}  // namespace
}  // namespace pregate::compute
