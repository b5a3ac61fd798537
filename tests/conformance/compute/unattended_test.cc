// What is routed and repeated on a device, beside what the same back end does step by step.
#include <algorithm>
#include <numeric>

#include "tests/conformance/compute/resident.h"

namespace pregate::compute {
namespace {

/// Ids and gates in row memory.
class ResidentChoices {
 public:
  ResidentChoices(Subject& subject, size_t count)
      : memory_(subject->allocate_rows(count * 8).value()), count_(count) {}
  TopK view() const {
    auto* const ids = reinterpret_cast<uint32_t*>(memory_->data());
    return {{ids, count_}, {reinterpret_cast<float*>(ids + count_), count_}};
  }

 private:
  std::unique_ptr<RowMemory> memory_;
  const size_t count_;
};

class UnattendedTest : public FormatTest {
 protected:
  static constexpr size_t kHidden = 70, kInner = 90;

  /// Of many, some are the same ones again, as each takes its time to pack.
  void make_experts(size_t count) {
    constexpr size_t kMostDistinct = 41;
    experts_.clear();
    for (size_t i = 0; i < std::min(count, kMostDistinct); ++i) {
      const Numbers gate = random(kInner, kHidden), up = random(kInner, kHidden);
      const Numbers down = random(kHidden, kInner);
      const ExpertSource source{gate.source(), up.source(), down.source()};
      experts_.push_back(subject_->pack_expert(source, format()).value());
    }
    pointers_.clear();
    for (size_t i = 0; i < count; ++i) pointers_.push_back(experts_[i % experts_.size()].get());
    group_ = subject_->unattended()->group(pointers_).value();
  }

  Numbers random(size_t rows, size_t cols) { return Numbers::random(random_, rows, cols); }

  /// By the host's look at the logits, with a task for each expert in order.
  void run_attended(const EncodedRows& x, Matrix<const float> logits, const TopKOptions& options,
                    Matrix<float> out) {
    std::vector<uint32_t> ids(x.rows * options.k);
    std::vector<float> gates(ids.size());
    subject_->choose_top_k(logits, options, {ids, gates});
    std::vector<std::vector<uint32_t>> rows(pointers_.size());
    std::vector<std::vector<float>> of_rows(pointers_.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      rows[ids[i]].push_back(uint32_t(i / options.k));
      of_rows[ids[i]].push_back(gates[i]);
    }
    std::vector<ExpertTask> tasks;
    for (size_t e = 0; e < pointers_.size(); ++e) {
      if (!rows[e].empty()) tasks.push_back({pointers_[e], rows[e], rows[e], of_rows[e]});
    }
    subject_->experts(x, tasks, out);
  }

  std::vector<std::unique_ptr<PackedExpert>> experts_;
  std::vector<const PackedExpert*> pointers_;  // the group's
  std::unique_ptr<ExpertGroup> group_;
};

TEST_P(UnattendedTest, RoutedRowsGetWhatTheHostsPlanGivesThem) {
  struct Case {
    size_t rows, experts, k;
  };
  const Case cases[] = {{1, 1, 1}, {1, 9, 8}, {5, 7, 3}, {230, 3, 2}, {33, 40, 4}, {2, 300, 2}};
  for (const auto& [rows, num_experts, k] : cases) {
    SCOPED_TRACE(fmt::format("{} rows, {} of {}", rows, k, num_experts));
    make_experts(num_experts);
    const Numbers x = random(rows, kHidden);
    const Encoded encoded(*subject_, x, format());
    const ResidentRows there(subject_, encoded);
    const Resident logits(subject_, random(rows, num_experts));
    Resident expected(subject_, random(rows, kHidden)), out(subject_, random(rows, kHidden));
    run_attended(there.view(), logits.view(), {k, true}, expected.view());
    const ResidentChoices chosen(subject_, rows * k);
    subject_->choose_top_k(logits.view(), {k, true}, chosen.view());
    subject_->unattended()->routed_experts(there.view(), *group_, chosen.view(), out.view());
    EXPECT_EQ(out.read(), expected.read());
  }
}

/// A layer of a model, as far as it matters: what sequences say, what a router says, an expert that
/// all rows go through, and memory that the back end keeps for itself.
class RepeatTest : public UnattendedTest {
 protected:
  static constexpr size_t kHeads = 2, kHeadDim = 8, kBlocks = 128, kExperts = 5;
  static constexpr TopKOptions kOptions{2, true};

  void SetUp() override {
    make_experts(kExperts);
    kv_ = subject_->allocate_kv({1, 1, kHeadDim, DType::kBf16}, kBlocks).value();
    gate_ = subject_->pack(random(kExperts, kHidden).source(), WeightFormat::kF32).value();
  }

  /// One more token for each of `n` sequences.
  std::vector<SequenceRows> next(size_t n) {
    std::vector<SequenceRows> sequences;
    blocks_.resize(n);
    for (size_t i = 0; i < n; ++i) {
      if (position_ % kKvBlockTokens == 0) blocks_[i].push_back(uint32_t(num_used_blocks_++));
      sequences.push_back({i, 1, position_, blocks_[i]});
    }
    ++position_;
    return sequences;
  }

  /// What of a step lies where, so that steps find it at the same places.
  struct Rows {
    Rows(Subject& subject, size_t n)
        : x(subject, Numbers(n, kHidden)),
          encoded(subject, Numbers(n, kHidden)),
          logits(subject, Numbers(n, kExperts)),
          attended(subject, Numbers(n, kHeads * kHeadDim)),
          out(subject, Numbers(n, kHidden)),
          shared(subject, Numbers(n, kHidden)),
          chosen(subject, n * kOptions.k) {}
    Resident x, encoded, logits, attended, out, shared;
    ResidentChoices chosen;
  };

  /// `is_attended`: with the host's plan.
  void layer(const Rows& rows, std::span<const SequenceRows> sequences, bool is_attended) {
    const Matrix<float> x = rows.x.view();
    const Matrix<float> q(x.data, x.rows, kHeads * kHeadDim, x.stride);
    const Matrix<float> k(x.data + 20, x.rows, kHeadDim, x.stride);
    const Matrix<float> v(x.data + 30, x.rows, kHeadDim, x.stride);
    subject_->place_heads(*kv_, {}, sequences, q, k, v);
    subject_->attention(*kv_, {.num_heads = kHeads, .scale = 0.5f}, sequences, q,
                        rows.attended.view());
    auto* const bytes = reinterpret_cast<std::byte*>(rows.encoded.view().data);
    const EncodedRows f32{WeightFormat::kF32, x.rows, x.cols,
                          reinterpret_cast<const std::byte*>(x.data)};
    subject_->linear(f32, *gate_, {}, rows.logits.view());
    subject_->encode(x, format(), bytes);
    const EncodedRows encoded{format(), x.rows, x.cols, bytes};
    subject_->mlp(encoded, *experts_.back(), rows.shared.view());
    if (is_attended) return run_attended(encoded, rows.logits.view(), kOptions, rows.out.view());
    subject_->choose_top_k(rows.logits.view(), kOptions, rows.chosen.view());
    subject_->unattended()->routed_experts(encoded, *group_, rows.chosen.view(), rows.out.view());
  }

  /// The same results as without repeating.
  void expect_repeats(Rows& rows, const std::vector<SequenceRows>& sequences) {
    const size_t n = sequences.size();
    const Numbers x = random(n, kHidden);
    subject_->write(rows.x.view().data, x.data.data(), x.data.size() * sizeof(float));
    const uint64_t key[] = {1, n};
    subject_->unattended()->repeat(key, *kv_, sequences, [&] {
      ++num_calls_;
      layer(rows, sequences, false);
    });
    const Numbers attended = rows.attended.read(), out = rows.out.read();
    const Numbers shared = rows.shared.read();
    layer(rows, sequences, true);
    EXPECT_EQ(attended, rows.attended.read());
    EXPECT_EQ(out, rows.out.read());
    EXPECT_EQ(shared, rows.shared.read());
  }

  /// The back end's own memory grows, and no row memory is asked for.
  void run_many_rows() {
    constexpr size_t kRows = 500;
    const Encoded x(*subject_, random(kRows, kHidden), format());
    std::vector<uint32_t> rows(kRows);
    std::iota(rows.begin(), rows.end(), 0);
    const std::vector<float> ones(kRows, 1.0f);
    const ExpertTask task{experts_.front().get(), rows, rows, ones};
    Numbers out(kRows, kHidden);
    subject_->experts(x.view(), {&task, 1}, out.view());
  }

  /// `count` tokens for each of `n` sequences, which have none.
  void fill(size_t n, size_t count) {
    std::vector<SequenceRows> sequences;
    blocks_.resize(n);
    for (size_t i = 0; i < n; ++i) {
      for (size_t at = 0; at < count; at += kKvBlockTokens) {
        blocks_[i].push_back(uint32_t(num_used_blocks_++));
      }
      sequences.push_back({i * count, count, 0, blocks_[i]});
    }
    Numbers q = random(n * count, kHeads * kHeadDim);
    Numbers k = random(n * count, kHeadDim), v = random(n * count, kHeadDim);
    subject_->place_heads(*kv_, {}, sequences, q.view(), k.view(), v.view());
    position_ = count;
  }

  std::unique_ptr<KvStorage> kv_;
  std::unique_ptr<PackedMatrix> gate_;
  std::vector<std::vector<uint32_t>> blocks_;
  size_t position_ = 0, num_used_blocks_ = 0, num_calls_ = 0;
};

/// The first time tables are made, the second time nothing is sent, the third time it is recorded.
TEST_P(RepeatTest, WhatIsDoneAgainIsNotLaunchedAgain) {
  Rows rows(subject_, 3);
  for (size_t i = 0; i < 20; ++i) expect_repeats(rows, next(3));
  EXPECT_EQ(num_calls_, 3u);
}

/// From one split of the KV cache to two, each.
TEST_P(RepeatTest, SequencesOutgrowTheirTables) {
  constexpr size_t kSequences = 9, kTokens = 126;
  Rows rows(subject_, kSequences);
  fill(kSequences, kTokens);
  for (size_t i = 0; i < 8; ++i) expect_repeats(rows, next(kSequences));
  EXPECT_LT(num_calls_, 8u);
}

/// The same tables, but sums for which the device that computes in slices has room no more at the
/// very step that is recorded.
TEST_P(RepeatTest, SequencesOutgrowTheRoomForSums) {
  constexpr size_t kLong = 8, kSequences = 17, kTokens = 126;
  Rows rows(subject_, kSequences);
  fill(kLong, kTokens);
  blocks_.resize(kSequences);
  for (std::vector<uint32_t>& blocks : blocks_) blocks.push_back(uint32_t(num_used_blocks_++));
  for (size_t step = 0; step < 6; ++step) {
    std::vector<SequenceRows> sequences;
    for (size_t i = 0; i < kSequences; ++i) {
      sequences.push_back({i, 1, step + (i < kLong ? kTokens : 0), blocks_[i]});
    }
    expect_repeats(rows, sequences);
  }
  EXPECT_EQ(num_calls_, 3u);
}

/// Memory that moves: the back end's, and then the caller's.
TEST_P(RepeatTest, WhatHasChangedIsDoneAnew) {
  Rows rows(subject_, 2);
  for (size_t i = 0; i < 5; ++i) expect_repeats(rows, next(2));
  EXPECT_EQ(num_calls_, 3u);
  run_many_rows();
  for (size_t i = 0; i < 5; ++i) expect_repeats(rows, next(2));
  const size_t num_calls = num_calls_;
  const Resident more(subject_, random(1, 5));
  for (size_t i = 0; i < 5; ++i) expect_repeats(rows, next(2));
  EXPECT_GT(num_calls_, num_calls);
}

/// More kinds of steps than are kept, each often enough to be recorded.
TEST_P(RepeatTest, ForgetsWhatIsOldest) {
  constexpr size_t kKinds = 70;
  Rows rows(subject_, 1);
  const std::vector<SequenceRows> sequences = next(1);
  for (uint64_t i = 0; i < 4 * kKinds; ++i) {
    const uint64_t key[] = {i / 4};
    subject_->unattended()->repeat(key, *kv_, sequences, [&] {
      ++num_calls_;
      layer(rows, sequences, false);
    });
  }
  const Numbers out = rows.out.read();
  layer(rows, sequences, true);
  EXPECT_EQ(out, rows.out.read());
  EXPECT_LE(num_calls_, 3 * kKinds);
}

auto devices_in(std::span<const WeightFormat> formats) {
  std::vector<FormatTest::ParamType> devices = distinct_formats();
  std::erase_if(devices, [&](const auto& device) {
    const auto& [name, format] = device;
    return !name.starts_with("cuda") || std::ranges::find(formats, format) == formats.end();
  });
  return ::testing::ValuesIn(devices);
}

INSTANTIATE_TEST_SUITE_P(Compute, UnattendedTest, devices_in(kFormats), format_test_name);
constexpr WeightFormat kBf16[] = {WeightFormat::kBf16};
// Whatever the format is, a recording is of the same launches.
INSTANTIATE_TEST_SUITE_P(Compute, RepeatTest, devices_in(kBf16), format_test_name);

}  // namespace
}  // namespace pregate::compute
