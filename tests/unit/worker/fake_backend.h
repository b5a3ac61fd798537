// A back end whose experts are simple enough to check by hand: f32 only,
// expert(x)[j] = x[j] * scale + shift * j, where scale and shift depend on layer and expert.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <map>

#include "base/check.h"
#include "base/ids.h"
#include "compute/host_backend.h"

namespace pregate::testing {

class FakeExpert final : public compute::PackedExpert {
 public:
  FakeExpert(LayerIdx layer, ExpertId expert, size_t hidden)
      : scale(1.0f + 0.37f * float(expert.value) + 0.11f * float(layer.value)),
        shift(0.013f * float(expert.value + 1)),
        hidden_(hidden) {}
  compute::WeightFormat format() const override { return compute::WeightFormat::kF32; }
  size_t hidden_size() const override { return hidden_; }
  size_t intermediate_size() const override { return hidden_; }
  size_t bytes() const override { return 1000; }

  const float scale;
  const float shift;

 private:
  const size_t hidden_;
};

class FakeBackend : public compute::HostBackend {
 public:
  /// Called before each call of experts(), with the number of its rows.
  std::function<void(size_t rows)> before_experts;
  std::atomic<size_t> num_calls{0};

  std::string name() const override { return "fake"; }
  void encode(compute::Matrix<const float> x, compute::WeightFormat format,
              std::byte* out) override {
    PREGATE_CHECK(format == compute::WeightFormat::kF32);
    for (size_t row = 0; row < x.rows; ++row) {
      std::memcpy(out + row * x.cols * 4, x.row(row).data(), x.cols * 4);
    }
  }
  void experts(const compute::EncodedRows& x, std::span<const compute::ExpertTask> tasks,
               compute::Matrix<float> out) override {
    if (before_experts) before_experts(x.rows);
    ++num_calls;
    for (size_t row = 0; row < out.rows; ++row) {
      for (float& value : out.row(row)) value = 0.0f;
    }
    const auto* rows = reinterpret_cast<const float*>(x.data);
    for (const compute::ExpertTask& task : tasks) {
      const auto& expert = static_cast<const FakeExpert&>(*task.expert);
      for (size_t i = 0; i < task.rows.size(); ++i) {
        const float* in = rows + task.rows[i] * x.cols;
        const auto to = out.row(task.out_rows[i]);
        for (size_t j = 0; j < x.cols; ++j) {
          to[j] += task.gates[i] * (in[j] * expert.scale + expert.shift * float(j));
        }
      }
    }
  }

  // An engine needs these; a worker does not.
  Result<std::unique_ptr<compute::PackedMatrix>> pack(const compute::SourceMatrix&,
                                                      compute::WeightFormat) override {
    return fail(ErrorCode::kUnimplemented, "fake");
  }
  Result<std::unique_ptr<compute::PackedExpert>> pack_expert(const compute::ExpertSource&,
                                                             compute::WeightFormat) override {
    return fail(ErrorCode::kUnimplemented, "fake");
  }
  void linear(const compute::EncodedRows&, const compute::PackedMatrix&, std::span<const float>,
              compute::Matrix<float>) override {
    PREGATE_CHECK(false);
  }
  void rms_norm(compute::Matrix<const float>, std::span<const float>, float,
                compute::Matrix<float>) override {
    PREGATE_CHECK(false);
  }
  void rotate(compute::Matrix<float>, size_t, compute::Matrix<const float>,
              compute::Matrix<const float>) override {
    PREGATE_CHECK(false);
  }
  size_t kv_block_bytes(const compute::KvShape&) const override { return 0; }
  Result<std::unique_ptr<compute::KvStorage>> allocate_kv(const compute::KvShape&,
                                                          size_t) override {
    return fail(ErrorCode::kUnimplemented, "fake");
  }
  void store_kv(compute::KvStorage&, size_t, std::span<const compute::SequenceRows>,
                compute::Matrix<const float>, compute::Matrix<const float>) override {
    PREGATE_CHECK(false);
  }
  void attention(const compute::KvStorage&, const compute::AttentionOptions&,
                 std::span<const compute::SequenceRows>, compute::Matrix<const float>,
                 compute::Matrix<float>) override {
    PREGATE_CHECK(false);
  }
};

inline Result<std::unique_ptr<compute::PackedExpert>> load_fake(LayerIdx layer, ExpertId expert,
                                                                size_t hidden) {
  return std::make_unique<FakeExpert>(layer, expert, hidden);
}

}  // namespace pregate::testing
