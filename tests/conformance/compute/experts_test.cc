#include <cmath>
#include <numeric>

#include "compute/number.h"
#include "compute/q4.h"
#include "tests/conformance/compute/resident.h"

namespace pregate::compute {
namespace {

struct ExpertNumbers {
  Numbers gate, up, down;

  ExpertNumbers(Random& random, size_t h, size_t f)
      : gate(Numbers::random(random, f, h)),
        up(Numbers::random(random, f, h)),
        down(Numbers::random(random, h, f)) {}
  ExpertSource source() const { return {gate.source(), up.source(), down.source()}; }
};

/// A task that owns its lists.
struct OwnedTask {
  size_t expert = 0;
  std::vector<uint32_t> rows, out_rows;
  std::vector<float> gates;
};

class ExpertsTest : public FormatTest {
 protected:
  std::vector<ExpertNumbers> random_experts(size_t count, size_t h, size_t f) {
    std::vector<ExpertNumbers> experts;
    for (size_t i = 0; i < count; ++i) experts.emplace_back(random_, h, f);
    return experts;
  }

  Numbers run(Subject& subject, const std::vector<ExpertNumbers>& experts,
              const std::vector<OwnedTask>& tasks, const Numbers& x, size_t out_rows) const {
    std::vector<std::unique_ptr<PackedExpert>> packed;
    for (const auto& expert : experts) {
      packed.push_back(subject->pack_expert(expert.source(), format()).value());
    }
    std::vector<ExpertTask> views;
    for (const OwnedTask& task : tasks) {
      views.push_back({packed[task.expert].get(), task.rows, task.out_rows, task.gates});
    }
    Numbers out(out_rows, x.cols);
    std::ranges::fill(out.data, 5.0f);  // must not show through
    subject->experts(Encoded(*subject, x, format()).view(), views, out.view());
    return out;
  }

  /// Tasks as a router makes them: each row goes to `top_k` experts.
  std::vector<OwnedTask> route(size_t rows, size_t num_experts, size_t top_k) {
    std::vector<OwnedTask> tasks(num_experts);
    for (size_t e = 0; e < num_experts; ++e) tasks[e].expert = e;
    for (uint32_t row = 0; row < rows; ++row) {
      for (size_t k = 0; k < top_k; ++k) {
        OwnedTask& task = tasks[(row * 3 + k) % num_experts];
        task.rows.push_back(row);
        task.out_rows.push_back(row);
        task.gates.push_back(static_cast<float>(random_.next_double()));
      }
    }
    return tasks;
  }

  /// The activation's exponential is a few units in the last place off std::exp. Where that moves
  /// a number over the middle between two values of the format, the number changes by a step: 2^-8
  /// of itself in bf16, 1/127 of its group's largest in q8, of which a sum of f numbers shows a
  /// part.
  float tolerance() const { return format() == WeightFormat::kF32 ? 1e-5f : 1e-2f; }
};

TEST_P(ExpertsTest, AgreesWithTheReferenceAtOddSizes) {
  const std::pair<size_t, size_t> shapes[] = {{65, 37}, {64, 16}, {100, 129}, {130, 300}, {1, 1}};
  for (const auto& [h, f] : shapes) {
    for (const size_t rows : {1, 7, 70}) {
      SCOPED_TRACE(fmt::format("h {}, f {}, {} rows", h, f, rows));
      const auto experts = random_experts(5, h, f);
      const auto tasks = route(rows, 5, 2);
      const Numbers x = Numbers::random(random_, rows, h);
      expect_close(run(subject_, experts, tasks, x, rows), run(reference_, experts, tasks, x, rows),
                   tolerance());
    }
  }
}

TEST_P(ExpertsTest, ManyRowsOfFewExperts) {
  const size_t h = 330, f = 290;
  const auto experts = random_experts(2, h, f);
  const Numbers x = Numbers::random(random_, 210, h);
  std::vector<OwnedTask> tasks(2);
  tasks[1].expert = 1;
  for (uint32_t row = 0; row < x.rows; ++row) {
    OwnedTask& task = tasks[row < 10 ? 0 : 1];
    task.rows.push_back(row);
    task.out_rows.push_back(uint32_t(x.rows) - 1 - row);
    task.gates.push_back(0.5f);
  }
  const Numbers all = run(subject_, experts, tasks, x, x.rows);
  expect_close(all, run(reference_, experts, tasks, x, x.rows), tolerance());
  for (const uint32_t row : {0u, 9u, 10u, 111u, 209u}) {
    const Numbers alone =
        run(subject_, experts, {{size_t(row < 10 ? 0 : 1), {0}, {0}, {0.5f}}}, x.row(row), 1);
    EXPECT_EQ(alone, all.row(x.rows - 1 - row)) << row;
  }
}

TEST_P(ExpertsTest, TasksMayBeEmptyRepeatRowsAndScatter) {
  const auto experts = random_experts(3, 40, 24);
  const Numbers x = Numbers::random(random_, 4, 40);
  const std::vector<OwnedTask> tasks = {{0, {}, {}, {}},
                                        {1, {2, 2, 0}, {5, 1, 5}, {0.5f, -1.0f, 2.0f}},
                                        {1, {3}, {5}, {0.25f}},
                                        {2, {3}, {1}, {1.0f}}};
  const Numbers out = run(subject_, experts, tasks, x, 6);
  expect_close(out, run(reference_, experts, tasks, x, 6), tolerance());
  for (const size_t untouched : {0, 2, 3, 4}) {
    for (const float value : out.view().row(untouched)) EXPECT_EQ(value, 0.0f);
  }
}

TEST_P(ExpertsTest, NoTasksGiveZeros) {
  const Numbers out = run(subject_, {}, {}, Numbers::random(random_, 2, 40), 3);
  EXPECT_EQ(out, Numbers(3, 40));
}

TEST_P(ExpertsTest, ExpertsOfDifferentSizesInOneCall) {
  std::vector<ExpertNumbers> experts;
  experts.emplace_back(random_, 48, 20);
  experts.emplace_back(random_, 48, 150);
  const Numbers x = Numbers::random(random_, 5, 48);
  const auto tasks = route(5, 2, 2);
  expect_close(run(subject_, experts, tasks, x, 5), run(reference_, experts, tasks, x, 5),
               tolerance());
}

TEST_P(ExpertsTest, ARowGivesTheSameBitsAloneAndInABatch) {
  const auto experts = random_experts(3, 70, 140);
  const Numbers x = Numbers::random(random_, 30, 70);
  auto tasks = route(30, 3, 2);
  const Numbers all = run(subject_, experts, tasks, x, 30);
  for (uint32_t row = 0; row < 30; ++row) {
    std::vector<OwnedTask> of_row;
    for (const OwnedTask& task : tasks) {
      for (size_t i = 0; i < task.rows.size(); ++i) {
        if (task.rows[i] == row) of_row.push_back({task.expert, {0}, {0}, {task.gates[i]}});
      }
    }
    ASSERT_EQ(run(subject_, experts, of_row, x.row(row), 1), all.row(row)) << row;
  }
}

TEST_P(ExpertsTest, ProductsAddedElsewhereInTheSameOrderGiveTheSameBits) {
  const auto experts = random_experts(4, 66, 50);
  const Numbers x = Numbers::random(random_, 6, 66);
  const auto tasks = route(6, 4, 3);
  Numbers sum(6, 66);
  for (const OwnedTask& task : tasks) {
    OwnedTask unweighted = task;
    std::ranges::fill(unweighted.gates, 1.0f);
    const Numbers products = run(subject_, experts, {unweighted}, x, 6);
    for (size_t i = 0; i < task.rows.size(); ++i) {
      for (size_t c = 0; c < 66; ++c) {
        // volatile: rounded to f32 before it is added, whatever the compiler would like to fuse
        const volatile float product = task.gates[i] * products.view().row(task.rows[i])[c];
        sum.view().row(task.rows[i])[c] += product;
      }
    }
  }
  EXPECT_EQ(run(subject_, experts, tasks, x, 6), sum);
}

TEST_P(ExpertsTest, TheNumberOfThreadsChangesNothing) {
  Subject one(name(), 1), three(name(), 3);
  const auto experts = random_experts(4, 128, 200);
  const Numbers x = Numbers::random(random_, 40, 128);
  const auto tasks = route(40, 4, 2);
  EXPECT_EQ(run(one, experts, tasks, x, 40), run(three, experts, tasks, x, 40));
}

TEST_P(ExpertsTest, LargeActivationsNeitherOverflowNorVanish) {
  ExpertNumbers expert(random_, 1, 1);
  expert.gate.data = {1.0f};
  expert.up.data = {1.0f};
  expert.down.data = {1.0f};
  // The nearest that q4 holds: factor 15, code 7.
  const double weight =
      format() == WeightFormat::kQ4 ? 105 * bf16_to_f32(f32_to_bf16(1.0f / kQ4ScaleSteps)) : 1.0;
  for (const float value : {-1000.0f, -100.0f, -20.0f, 100.0f, 1000.0f}) {
    Numbers x(1, 1);
    x.data = {value};
    const Numbers out = run(subject_, {expert}, {{0, {0}, {0}, {1.0f}}}, x, 1);
    const double gate = weight * value;
    const double exact = weight * gate * gate / (1.0 + std::exp(-gate));
    EXPECT_NEAR(out.data[0], exact, std::fabs(exact) * 0.02 + 1e-30) << value;
  }
}

TEST_P(ExpertsTest, RefusesShapesThatDoNotFitTogether) {
  ExpertNumbers expert(random_, 16, 8);
  expert.down = Numbers::random(random_, 8, 16);
  const auto packed = subject_->pack_expert(expert.source(), format());
  ASSERT_FALSE(packed);
  EXPECT_EQ(packed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(packed.error().message.find("down is [8, 16]; expected [16, 8]"), std::string::npos)
      << packed.error().message;
}

TEST_P(ExpertsTest, NamesTheWeightThatIsNotFinite) {
  ExpertNumbers expert(random_, 16, 8);
  expert.up.view().row(3)[2] = std::nanf("");
  const auto packed = subject_->pack_expert(expert.source(), format());
  ASSERT_FALSE(packed);
  EXPECT_EQ(packed.error().code, ErrorCode::kDataLoss);
  EXPECT_NE(packed.error().message.find("up: row 3, column 2"), std::string::npos)
      << packed.error().message;
}

INSTANTIATE_TEST_SUITE_P(Backends, ExpertsTest, all_formats(), format_test_name);

class MlpTest : public FormatTest {
 protected:
  std::unique_ptr<PackedExpert> random_expert(size_t h, size_t f) {
    return subject_->pack_expert(ExpertNumbers(random_, h, f).source(), format()).value();
  }

  Numbers by_a_task(const EncodedRows& x, const PackedExpert& expert) {
    std::vector<uint32_t> rows(x.rows);
    std::iota(rows.begin(), rows.end(), 0);
    const std::vector<float> ones(x.rows, 1.0f);
    const ExpertTask task{&expert, rows, rows, ones};
    Numbers out(x.rows, x.cols);
    subject_->experts(x, {&task, 1}, out.view());
    return out;
  }
};

TEST_P(MlpTest, IsATaskOfAllRows) {
  const std::pair<size_t, size_t> shapes[] = {{1, 1}, {40, 26}, {65, 37}, {150, 330}, {512, 70}};
  for (const auto& [h, f] : shapes) {
    const auto expert = random_expert(h, f);
    for (const size_t rows : {1, 8, 9, 70, 200}) {
      SCOPED_TRACE(fmt::format("h {}, f {}, {} rows", h, f, rows));
      const WeightFormat of_rows = arithmetic_of(format());  // which may be another
      const Encoded x(*subject_, Numbers::random(random_, rows, h), of_rows);
      Resident out(subject_, Numbers::random(random_, rows, h), 3);
      subject_->mlp(ResidentRows(subject_, x).view(), *expert, out.view());
      EXPECT_EQ(out.read(), by_a_task(x.view(), *expert));
    }
  }
}

TEST_P(MlpTest, TakesRowsOfTheHost) {
  const auto expert = random_expert(70, 90);
  const Encoded x(*subject_, Numbers::random(random_, 20, 70), format());
  Numbers out = Numbers::random(random_, 20, 70);
  subject_->mlp(x.view(), *expert, out.view());
  EXPECT_EQ(out, by_a_task(x.view(), *expert));
}

INSTANTIATE_TEST_SUITE_P(Backends, MlpTest, all_formats(), format_test_name);

/// Machines of different kinds may serve one model: in q8 and q4 they give the same bits.
TEST(Experts, KernelSetsAgreeInIntegersToTheBit) {
  Random random(40);
  const ExpertNumbers numbers(random, 200, 300);
  const Numbers x = Numbers::random(random, 70, 200);
  std::vector<uint32_t> rows(x.rows);
  std::iota(rows.begin(), rows.end(), 0);
  const std::vector<float> gates(x.rows, 0.25f);
  for (const WeightFormat format : {WeightFormat::kQ8, WeightFormat::kQ4}) {
    std::vector<Numbers> results;
    for (const std::string& name : test_support::backend_names()) {
      // The fake device's exponential is the library's.
      if (name == "reference" || name == test_support::kFakeCuda ||
          name == test_support::kSlicedCuda)
        continue;
      Subject subject(name);
      const auto expert = subject->pack_expert(numbers.source(), format).value();
      const ExpertTask task{expert.get(), rows, rows, gates};
      results.emplace_back(x.rows, 200);
      subject->experts(Encoded(*subject, x, format).view(), {&task, 1}, results.back().view());
      EXPECT_EQ(results.back(), results.front()) << name;
    }
  }
}

}  // namespace
}  // namespace pregate::compute
