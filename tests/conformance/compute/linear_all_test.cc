// Several matrices that the same rows go through, which a back end may multiply together.
#include <algorithm>
#include <deque>
#include <numeric>
#include <vector>

#include "tests/conformance/compute/resident.h"

namespace pregate::compute {
namespace {

Matrix<float> columns(Matrix<float> rows, size_t first, size_t count) {
  return {rows.data + first, rows.rows, count, rows.stride};
}

Numbers copy_of(Matrix<const float> rows) {
  Numbers copy(rows.rows, rows.cols);
  for (size_t r = 0; r < rows.rows; ++r) {
    std::ranges::copy(rows.row(r), copy.view().row(r).begin());
  }
  return copy;
}

/// Every other map has a bias.
class Maps {
 public:
  Maps(Subject& subject, Random& random, WeightFormat format, size_t in,
       std::span<const size_t> outputs)
      : subject_(subject) {
    for (const size_t count : outputs) {
      add(format, Numbers::random(random, count, in),
          Numbers::random(random, 1, maps_.size() % 2 * count));
    }
  }

  void add(WeightFormat format, const Numbers& weights, const Numbers& bias) {
    maps_.push_back({weights, bias, Resident(subject_, bias),
                     subject_->pack(weights.source(), format).value()});
  }

  size_t size() const { return maps_.size(); }
  size_t num_outputs() const {
    const auto add = [](size_t sum, const Map& map) { return sum + map.weights.rows; };
    return std::accumulate(maps_.begin(), maps_.end(), size_t{0}, add);
  }
  const Numbers& weights(size_t i) const { return maps_[i].weights; }
  std::span<const float> bias(size_t i) const { return maps_[i].bias.data; }

  /// The products of map i in its columns of y, one map's beside another's.
  std::vector<LinearMap> into(Matrix<float> y, bool resident) const {
    std::vector<LinearMap> maps;
    size_t first = 0;
    for (const Map& map : maps_) {
      const std::span<const float> bias = map.bias.data;
      maps.push_back({map.packed.get(), resident && !bias.empty() ? map.resident.vector() : bias,
                      columns(y, first, map.weights.rows)});
      first += map.weights.rows;
    }
    return maps;
  }

 private:
  struct Map {
    Numbers weights, bias;
    Resident resident;  // the bias
    std::unique_ptr<PackedMatrix> packed;
  };

  Subject& subject_;
  std::deque<Map> maps_;
};

class LinearAllTest : public FormatTest {
 protected:
  /// As LinearTest's.
  float tolerance() const { return arithmetic_of(format()) == WeightFormat::kQ8 ? 0.0f : 1e-5f; }

  Numbers expected(const Maps& maps, size_t i, const Numbers& x) {
    const Numbers& weights = maps.weights(i);
    const auto packed = reference_->pack(weights.source(), format()).value();
    Numbers y(x.rows, weights.rows);
    reference_->linear(Encoded(*reference_, x, format()).view(), *packed, maps.bias(i), y.view());
    return y;
  }

  void expect_agreement(size_t rows, size_t in, std::span<const size_t> outputs) {
    SCOPED_TRACE(fmt::format("{} rows, {} inputs, {} maps", rows, in, outputs.size()));
    const Maps maps(subject_, random_, format(), in, outputs);
    const Numbers x = Numbers::random(random_, rows, in);
    const Encoded encoded(*subject_, x, format());
    const ResidentRows resident(subject_, encoded);
    Resident together(subject_, Numbers(rows, maps.num_outputs()), 5);
    Resident alone(subject_, Numbers(rows, maps.num_outputs()), 5);
    subject_->linear_all(resident.view(), maps.into(together.view(), true));
    for (const LinearMap& map : maps.into(alone.view(), true)) {
      subject_->linear(resident.view(), *map.weights, map.bias, map.y);
    }
    Numbers y = together.read();
    EXPECT_EQ(y, alone.read());
    for (size_t i = 0; i < maps.size(); ++i) {
      SCOPED_TRACE(fmt::format("map {}", i));
      expect_close(copy_of(maps.into(y.view(), false)[i].y), expected(maps, i, x), tolerance());
    }
  }
};

TEST_P(LinearAllTest, AgreesWithTheReferenceForFewRowsAndMany) {
  const size_t outputs[] = {37, 200, 128};
  for (const size_t rows : {1, 2, 7, 8, 9, 20, 33, 70}) expect_agreement(rows, 150, outputs);
}

TEST_P(LinearAllTest, TakesAnyNumberOfMaps) {
  const size_t outputs[] = {1, 129, 64, 300, 37, 5, 128, 127, 17};
  for (const size_t count : {1, 2, 3, 4, 5, 8, 9}) {
    expect_agreement(3, 70, std::span(outputs).first(count));
  }
}

// Longer than what a kernel keeps of a matrix at a time.
TEST_P(LinearAllTest, TakesLongRows) {
  const size_t one[] = {100}, several[] = {130, 100};
  for (const size_t rows : {1, 20}) {
    expect_agreement(rows, 1300, one);
    expect_agreement(rows, 1300, several);
  }
}

TEST_P(LinearAllTest, TakesMoreRowsThanAKernelAtATime) {
  const size_t outputs[] = {140, 20};
  expect_agreement(200, 70, outputs);
}

TEST_P(LinearAllTest, TakesRowsOfTheHost) {
  const size_t outputs[] = {60, 200, 3};
  const Maps maps(subject_, random_, format(), 150, outputs);
  const Numbers x = Numbers::random(random_, 9, 150);
  const Encoded encoded(*subject_, x, format());
  Numbers y(9, maps.num_outputs());
  subject_->linear_all(encoded.view(), maps.into(y.view(), false));
  for (size_t i = 0; i < maps.size(); ++i) {
    expect_close(copy_of(maps.into(y.view(), false)[i].y), expected(maps, i, x), tolerance());
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearAllTest, all_formats(), format_test_name);

class LinearAllFormatsTest : public BackendTest {};

TEST_P(LinearAllFormatsTest, MayDifferFromMapToMap) {
  for (const auto& [one, other] : {std::pair(WeightFormat::kQ8, WeightFormat::kQ4),
                                   std::pair(WeightFormat::kBf16, WeightFormat::kF8)}) {
    Maps maps(subject_, random_, one, 200, {});
    for (const WeightFormat format : {one, one, other, one, other, other}) {
      maps.add(format, Numbers::random(random_, 40, 200), Numbers::random(random_, 1, 40));
    }
    const Encoded x(*subject_, Numbers::random(random_, 3, 200), one);
    const ResidentRows rows(subject_, x);
    Resident together(subject_, Numbers(3, maps.num_outputs()));
    Resident alone(subject_, Numbers(3, maps.num_outputs()));
    subject_->linear_all(rows.view(), maps.into(together.view(), true));
    for (const LinearMap& map : maps.into(alone.view(), true)) {
      subject_->linear(rows.view(), *map.weights, map.bias, map.y);
    }
    EXPECT_EQ(together.read(), alone.read());
  }
}

// bf16 is among them: on every device.
INSTANTIATE_TEST_SUITE_P(Backends, LinearAllFormatsTest,
                         ::testing::ValuesIn(test_support::backend_names()), backend_test_name);

}  // namespace
}  // namespace pregate::compute
