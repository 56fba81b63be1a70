#include "artifact/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tilewright {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Tensor tensor(DType dtype, std::vector<int64_t> dims, const std::vector<double>& values) {
  Tensor result(dtype, std::move(dims));
  for (size_t i = 0; i < values.size(); ++i) result.set_float(static_cast<int64_t>(i), values[i]);
  return result;
}
Comparison compare_one(DType dtype, double actual, double expected, const Tolerance& tolerance = {}) {
  return compare(tensor(dtype, {}, {actual}), tensor(dtype, {}, {expected}), tolerance);
}

TEST(Compare, EqualTensorsAreTheSame) {
  const Tensor t = tensor(DType::f32, {2, 2}, {1, -2, 0, 4});
  const Comparison result = compare(t, t, {});
  EXPECT_TRUE(result.same);
  EXPECT_EQ(result.reason, "");
  EXPECT_EQ(result.largest_absolute, 0);
  EXPECT_EQ(result.largest_expected, 4);
  EXPECT_EQ(result.relative_rms, 0);
}

TEST(Compare, AnotherDtypeOrShapeIsADifference) {
  EXPECT_EQ(compare(Tensor(DType::f32, {2}), Tensor(DType::f64, {2}), {1, 1}).reason, "dtype is f32, expected f64");
  EXPECT_EQ(compare(Tensor(DType::f32, {2, 1}), Tensor(DType::f32, {1, 2}), {1, 1}).reason, "dims are [2,1], expected [1,2]");
  EXPECT_EQ(compare(Tensor(DType::f32, {}), Tensor(DType::f32, {1}), {1, 1}).reason, "dims are [], expected [1]");
  EXPECT_FALSE(compare(Tensor(DType::f32, {0, 2}), Tensor(DType::f32, {0, 3}), {1, 1}).same);
  EXPECT_TRUE(compare(Tensor(DType::f32, {0, 2}), Tensor(DType::f32, {0, 2}), {}).same);
}

TEST(Compare, NanEqualsNanAndNothingElse) {
  const Tolerance any{1e9, 1e9};
  EXPECT_TRUE(compare_one(DType::f32, nan, nan).same);
  EXPECT_FALSE(compare_one(DType::f32, nan, 1, any).same);
  EXPECT_FALSE(compare_one(DType::f32, 1, nan, any).same);
  EXPECT_FALSE(compare_one(DType::f32, nan, HUGE_VAL, any).same);
}

TEST(Compare, InfinitiesMustAgreeWithTheirSign) {
  const Tolerance any{1e9, 1e9};
  EXPECT_TRUE(compare_one(DType::f32, HUGE_VAL, HUGE_VAL).same);
  EXPECT_FALSE(compare_one(DType::f32, HUGE_VAL, -HUGE_VAL, any).same);
  EXPECT_FALSE(compare_one(DType::f32, 3e38, HUGE_VAL, any).same);
  EXPECT_FALSE(compare_one(DType::f32, HUGE_VAL, 3e38, any).same);
}

TEST(Compare, BothSignsOfZeroAreTheSame) { EXPECT_TRUE(compare_one(DType::f32, -0.0, 0.0).same); }

TEST(Compare, TheBoundIsAbsolutePlusRelativeTimesExpected) {
  const Tolerance t{0.25, 0.5};  // 8·0.25 + 0.5 = 2.5, exact in float32
  EXPECT_TRUE(compare_one(DType::f32, 10.5, 8, t).same);
  EXPECT_FALSE(compare_one(DType::f32, 10.5 + 0x1p-20, 8, t).same);
  EXPECT_TRUE(compare_one(DType::f32, -10.5, -8, t).same);
  EXPECT_TRUE(compare_one(DType::f32, 5.5, 8, t).same);
  // Of what is expected, not of what came: 4·0.25 + 0.5 = 1.5, 5.75·0.25 + 0.5 = 1.9375, and they are 1.75 apart.
  EXPECT_FALSE(compare_one(DType::f32, 5.75, 4, t).same);
  EXPECT_TRUE(compare_one(DType::f32, 4, 5.75, t).same);
}

TEST(Compare, TheFirstDifferenceIsNamedWithItsPlace) {
  const Comparison result = compare(tensor(DType::f32, {2, 3}, {0, 1, 2, 3, 5, 7}), tensor(DType::f32, {2, 3}, {0, 1, 2, 3, 4, 5}), {});
  EXPECT_FALSE(result.same);
  EXPECT_EQ(result.reason.find("2 of 6 elements differ, the first at [1,1]: 5 instead of 4"), 0u) << result.reason;
  EXPECT_EQ(result.largest_absolute, 2);
  EXPECT_EQ(result.largest_expected, 5);
  EXPECT_DOUBLE_EQ(result.relative_rms, std::sqrt(5.0 / 55));  // (1² + 2²) / (1 + 4 + 9 + 16 + 25)
}

TEST(Compare, IntegersAreExactWithoutTolerance) {
  EXPECT_TRUE(compare(Tensor::from_ints({7}), Tensor::from_ints({7}), {}).same);
  EXPECT_FALSE(compare(Tensor::from_ints({7}), Tensor::from_ints({8}), {}).same);
  EXPECT_TRUE(compare(Tensor::from_ints({7}), Tensor::from_ints({8}), {0, 1}).same);
  Tensor all(DType::u64, {1}), none(DType::u64, {1});
  all.set_int(0, -1);
  EXPECT_EQ(compare(all, none, {}).largest_absolute, 0x1p64);  // 2⁶⁴ - 1, rounded
  // 2⁶² and 2⁶² + 1 are one float64.
  EXPECT_FALSE(compare(Tensor::from_ints({int64_t{1} << 62}), Tensor::from_ints({(int64_t{1} << 62) + 1}), {}).same);
}

TEST(ConformanceTolerance, IsTheBackendTestsOwnWidenedForNarrowFloats) {
  for (const DType dtype : {DType::f64, DType::f32, DType::f16}) {  // a step of f16 is 2⁻¹⁰ < 10⁻³
    EXPECT_EQ(conformance_tolerance(dtype).relative, 1e-3);
    EXPECT_EQ(conformance_tolerance(dtype).absolute, 1e-7);
  }
  EXPECT_EQ(conformance_tolerance(DType::bf16).relative, 0x1p-7);
  EXPECT_EQ(conformance_tolerance(DType::f8e4m3fn).relative, 0x1p-3);
  EXPECT_EQ(conformance_tolerance(DType::f8e5m2).relative, 0x1p-2);
  for (const DType dtype : {DType::i64, DType::u8, DType::i4, DType::boolean}) {
    EXPECT_EQ(conformance_tolerance(dtype).relative, 0);
    EXPECT_EQ(conformance_tolerance(dtype).absolute, 0);
  }
}

TEST(NetworkTolerance, GrowsWithStepsAndTheOutputsMagnitude) {
  const Tolerance t = network_tolerance(DType::f32, 8, 100);
  EXPECT_EQ(t.relative, 8 * 0x1p-23);
  EXPECT_DOUBLE_EQ(t.absolute, 8 * 0x1p-23 * 100);
  EXPECT_EQ(network_tolerance(DType::f32, 0, 1e-9).relative, 0x1p-23);  // one rounding at least
  EXPECT_EQ(network_tolerance(DType::f32, 0, 1e-9).absolute, 1e-7);
}

TEST(NetworkTolerance, IntegersMayNotDiffer) {
  EXPECT_EQ(network_tolerance(DType::i64, 100, 1e6).relative, 0);
  EXPECT_LT(network_tolerance(DType::i64, 100, 1e6).absolute, 1);
}

TEST(Epsilon, IsTheStepFromOneToTheNextValue) {
  for (int index = 0; index < dtype_count; ++index) {
    const auto dtype = static_cast<DType>(index);
    if (!is_float(dtype)) {
      EXPECT_EQ(epsilon_of(dtype), 0) << name(dtype);
      continue;
    }
    const double step = epsilon_of(dtype);
    EXPECT_EQ(round_to(dtype, 1 + step), 1 + step) << name(dtype);
    EXPECT_TRUE(round_to(dtype, 1 + step / 4) == 1) << name(dtype);
  }
}

}  // namespace
}  // namespace tilewright
