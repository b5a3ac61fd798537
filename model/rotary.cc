#include "model/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace pregate::model {
namespace {

constexpr double kTurn = 2.0 * std::numbers::pi;

/// theta^(2j / dim) for each pair j of dimensions, in f32 like the models were trained with.
std::vector<float> plain_wavelengths(double theta, size_t dim) {
  std::vector<float> result(dim / 2);
  for (size_t j = 0; j < result.size(); ++j) {
    result[j] = std::pow(float(theta), float(2 * j) / float(dim));
  }
  return result;
}

std::vector<float> plain_frequencies(double theta, size_t dim) {
  std::vector<float> result = plain_wavelengths(theta, dim);
  for (float& value : result) value = 1.0f / value;
  return result;
}

/// "NTK-aware" scaling: theta grows with the length, so that the slowest pair spans it.
std::vector<float> dynamic_frequencies(const RopeConfig& rope, size_t dim, size_t length) {
  const double ratio =
      double(std::max(length, rope.original_max_position)) / double(rope.original_max_position);
  const double growth = rope.factor * ratio - (rope.factor - 1.0);
  return plain_frequencies(rope.theta * std::pow(growth, double(dim) / double(dim - 2)), dim);
}

/// YaRN (Peng et al. 2023, section 3.2): dimensions that turn more than beta_fast times over the
/// trained length stay, those that turn less than beta_slow times are slowed by `factor`, and in
/// between a ramp.
std::vector<float> yarn_frequencies(const RopeConfig& rope, size_t dim) {
  const auto pair_turning = [&](double turns) {
    return double(dim) * std::log(double(rope.original_max_position) / (turns * kTurn)) /
           (2.0 * std::log(rope.theta));
  };
  double low = pair_turning(rope.beta_fast), high = pair_turning(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, double(dim) - 1.0);
  if (low == high) high += 0.001;  // a step instead of a ramp

  const std::vector<float> wavelengths = plain_wavelengths(rope.theta, dim);
  std::vector<float> result(dim / 2);
  for (size_t j = 0; j < result.size(); ++j) {
    const float kept = 1.0f / wavelengths[j];
    const float slowed = 1.0f / (float(rope.factor) * wavelengths[j]);
    const float ramp = std::clamp((float(j) - float(low)) / float(high - low), 0.0f, 1.0f);
    result[j] = slowed * ramp + kept * (1.0f - ramp);
  }
  return result;
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  const double mscale = rope.mscale.value_or(0.0), all_dim = rope.mscale_all_dim.value_or(0.0);
  if (mscale == 0.0 || all_dim == 0.0) return yarn_mscale(rope.factor, 1.0);
  return yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, all_dim);
}

/// Llama 3.1: as YaRN, but the ramp is over wavelengths measured in trained lengths.
std::vector<float> llama3_frequencies(const RopeConfig& rope, size_t dim) {
  const double low = rope.low_freq_factor, high = rope.high_freq_factor;
  std::vector<float> result = plain_frequencies(rope.theta, dim);
  for (float& frequency : result) {
    const float wavelength = float(kTurn) / frequency;
    const double turns = double(rope.original_max_position) / double(wavelength);
    const float slowed = frequency / float(rope.factor);
    if (turns < low) {
      frequency = slowed;
    } else if (turns <= high) {
      const float keep = float((turns - low) / (high - low));
      frequency = (1.0f - keep) * slowed + keep * frequency;
    }
  }
  return result;
}

std::vector<float> initial_frequencies(const RopeConfig& rope, size_t dim) {
  switch (rope.type) {
    case RopeType::kYarn:
      return yarn_frequencies(rope, dim);
    case RopeType::kLlama3:
      return llama3_frequencies(rope, dim);
    case RopeType::kDynamic:
      return dynamic_frequencies(rope, dim, 0);
    case RopeType::kLinear: {
      std::vector<float> result = plain_frequencies(rope.theta, dim);
      for (float& frequency : result) frequency /= float(rope.factor);
      return result;
    }
    case RopeType::kDefault:
      break;
  }
  return plain_frequencies(rope.theta, dim);
}

}  // namespace

Rotary::Rotary(const ModelConfig& config)
    : rope_(config.rope),
      rotary_dim_(size_t(double(config.head_dim) * config.rope.partial_rotary_factor)),
      frequencies_(initial_frequencies(rope_, rotary_dim_)) {
  if (rope_.type == RopeType::kYarn) attention_factor_ = float(yarn_attention_factor(rope_));
}

void Rotary::rows(std::span<const uint32_t> positions, std::span<const uint32_t> sequence_lengths,
                  std::vector<float>& cos, std::vector<float>& sin) const {
  const size_t cols = num_frequencies();
  cos.resize(positions.size() * cols);
  sin.resize(positions.size() * cols);
  rows(positions, sequence_lengths, {cos.data(), positions.size(), cols},
       {sin.data(), positions.size(), cols});
}

void Rotary::rows(std::span<const uint32_t> positions, std::span<const uint32_t> sequence_lengths,
                  compute::Matrix<float> cos, compute::Matrix<float> sin) const {
  PREGATE_CHECK(positions.size() == sequence_lengths.size() && cos.rows == positions.size());
  PREGATE_CHECK(cos.cols == num_frequencies() && sin.cols == cos.cols && sin.rows == cos.rows);
  std::vector<float> stretched;  // kDynamic: for the last length beyond the trained one
  size_t stretched_length = 0;
  for (size_t row = 0; row < positions.size(); ++row) {
    const size_t length = sequence_lengths[row];
    const bool stretches = rope_.type == RopeType::kDynamic && length > rope_.original_max_position;
    if (stretches && length != stretched_length) {
      stretched = dynamic_frequencies(rope_, rotary_dim_, length);
      stretched_length = length;
    }
    const std::vector<float>& frequencies = stretches ? stretched : frequencies_;
    for (size_t j = 0; j < cos.cols; ++j) {
      const float angle = float(positions[row]) * frequencies[j];
      cos.row(row)[j] = std::cos(angle) * attention_factor_;
      sin.row(row)[j] = std::sin(angle) * attention_factor_;
    }
  }
}

}  // namespace pregate::model
