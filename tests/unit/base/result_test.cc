#include "base/result.h"

#include <memory>

#include <gtest/gtest.h>

namespace pregate {
namespace {

Result<std::unique_ptr<int>> half(int number) {
  if (number % 2 != 0) return fail(ErrorCode::kInvalidArgument, "{} is odd", number);
  return std::make_unique<int>(number / 2);
}

Result<int> quarter(int number) {
  PREGATE_ASSIGN(const auto once, half(number));
  PREGATE_ASSIGN(const auto twice, half(*once));
  return *twice;
}

Status check_quarter(int number) {
  PREGATE_TRY(quarter(number));
  return {};
}

TEST(Result, CarriesValuesAndErrorsThroughTheMacros) {
  EXPECT_EQ(quarter(12), 3);
  ASSERT_FALSE(quarter(6).has_value());
  EXPECT_EQ(quarter(6).error().message, "3 is odd");
  EXPECT_TRUE(check_quarter(4).has_value());
  EXPECT_EQ(check_quarter(5).error().code, ErrorCode::kInvalidArgument);
}

TEST(Result, ContextGoesBeforeTheMessage) {
  const Error error = in_context({ErrorCode::kDataLoss, "truncated"}, "model.safetensors");
  EXPECT_EQ(error.message, "model.safetensors: truncated");
  EXPECT_EQ(error.code, ErrorCode::kDataLoss);
}

}  // namespace
}  // namespace pregate
