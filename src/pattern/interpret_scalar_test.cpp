#include "pattern/interpret_scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tilewright::pattern {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
constexpr int64_t least = std::numeric_limits<int64_t>::min(), most = std::numeric_limits<int64_t>::max();

TEST(Scalar, IntegerDivisionTruncatesAndFloorDivisionFloors) {
  EXPECT_EQ(apply(ExprOp::div, DType::i64, -7, 2), -3);
  EXPECT_EQ(apply(ExprOp::floor_div, DType::i64, -7, 2), -4);
  EXPECT_EQ(apply(ExprOp::floor_div, DType::i64, 7, -2), -4);
  EXPECT_EQ(apply(ExprOp::floor_div, DType::i64, -8, 2), -4);
  EXPECT_EQ(apply(ExprOp::mod, DType::i64, -7, 2), 1);
  EXPECT_EQ(apply(ExprOp::mod, DType::i64, 7, -2), -1);
  EXPECT_EQ(apply(ExprOp::fmod, DType::i64, -7, 2), -1);
}

TEST(Scalar, DivisionByZeroGivesZeroForIntegersAndIeeeForFloats) {
  for (const ExprOp op : {ExprOp::div, ExprOp::floor_div, ExprOp::mod, ExprOp::fmod})
    for (const DType dtype : {DType::i64, DType::i8, DType::u64}) EXPECT_EQ(apply(op, dtype, 5, 0), 0);
  EXPECT_EQ(apply(ExprOp::div, 1.0, 0.0), infinity);
  EXPECT_TRUE(std::isnan(apply(ExprOp::div, 0.0, 0.0)));
}

TEST(Scalar, TheSmallestIntegerOverMinusOneWraps) {
  EXPECT_EQ(apply(ExprOp::div, DType::i64, least, -1), least);
  EXPECT_EQ(apply(ExprOp::floor_div, DType::i64, least, -1), least);
  EXPECT_EQ(apply(ExprOp::mod, DType::i64, least, -1), 0);
  EXPECT_EQ(apply(ExprOp::abs, DType::i64, least, 0), least);
}

TEST(Scalar, LargeUnsignedValuesCompareAndDivideAsUnsigned) {
  EXPECT_EQ(apply(ExprOp::less, DType::u64, 1, -1), 1);  // -1 is 2^64-1
  EXPECT_EQ(apply(ExprOp::max, DType::u64, 1, -1), -1);
  EXPECT_EQ(apply(ExprOp::div, DType::u64, -1, 2), most);
  EXPECT_EQ(apply(ExprOp::shift_right, DType::u64, -1, 63), 1);
}

TEST(Scalar, MinAndMaxOfFloatsKeepNaN) {
  for (const ExprOp op : {ExprOp::min, ExprOp::max}) {
    EXPECT_TRUE(std::isnan(apply(op, nan, 1.0)));
    EXPECT_TRUE(std::isnan(apply(op, 1.0, nan)));
  }
  EXPECT_EQ(apply(ExprOp::min, 2.0, -3.0), -3.0);
}

TEST(Scalar, FloatModTakesTheDivisorsSignAndFmodTheDividends) {
  EXPECT_EQ(apply(ExprOp::mod, -5.5, 2.0), 0.5);
  EXPECT_EQ(apply(ExprOp::mod, 5.5, -2.0), -0.5);
  EXPECT_EQ(apply(ExprOp::fmod, -5.5, 2.0), -1.5);
}

TEST(Scalar, RoundingTakesHalvesToEven) {
  EXPECT_EQ(apply(ExprOp::round_even, 0.5, 0), 0);
  EXPECT_EQ(apply(ExprOp::round_even, 1.5, 0), 2);
  EXPECT_EQ(apply(ExprOp::round_even, -2.5, 0), -2);
}

TEST(Scalar, IntegerPowersMultiplyAndNegativeExponentsVanish) {
  EXPECT_EQ(apply(ExprOp::pow, DType::i64, -3, 5), -243);
  EXPECT_EQ(apply(ExprOp::pow, DType::i64, 2, -1), 0);
  EXPECT_EQ(apply(ExprOp::pow, DType::i64, -1, -3), -1);
  EXPECT_EQ(apply(ExprOp::pow, DType::i64, 0, 0), 1);
}

TEST(Scalar, CastsToIntegersTruncateAndSaturate) {
  EXPECT_EQ(to_integer(-1.9, DType::i32, false), -1);
  EXPECT_EQ(to_integer(300, DType::u8, false), 255);
  EXPECT_EQ(to_integer(-1, DType::u8, false), 0);
  EXPECT_EQ(to_integer(-infinity, DType::i8, false), -128);
  EXPECT_EQ(to_integer(infinity, DType::i64, false), most);
  EXPECT_EQ(to_integer(9, DType::i4, false), 7);
  EXPECT_EQ(to_integer(nan, DType::i32, false), 0);
  EXPECT_EQ(to_integer(0x1p63, DType::u64, false), least);  // 2^63
  EXPECT_EQ(to_integer(infinity, DType::u64, false), -1);
  EXPECT_EQ(to_integer(0.25, DType::boolean, false), 1);
}

TEST(Scalar, WrappingCastsKeepTheLowBits) {
  EXPECT_EQ(to_integer(300, DType::u8, true), 44);
  EXPECT_EQ(to_integer(-1.5, DType::u8, true), 255);
  EXPECT_EQ(to_integer(200, DType::i8, true), -56);
}

TEST(Scalar, IntegerCastsSaturate) {
  EXPECT_EQ(clamp_integer(-5, DType::i32, DType::u64), 0);
  EXPECT_EQ(clamp_integer(-1, DType::u64, DType::i64), most);
  EXPECT_EQ(clamp_integer(-1, DType::u64, DType::i8), 127);
  EXPECT_EQ(clamp_integer(1000, DType::i64, DType::i16), 1000);
  EXPECT_EQ(clamp_integer(-7, DType::i64, DType::boolean), 1);
}

TEST(Scalar, UnsaturatedCastsKeepInfinityThroughTheirBits) {
  ExprNode cast{ExprOp::cast_unsaturated, DType::f8e5m2, {0}, 0, 0, 0}, bits{ExprOp::bitcast, DType::u8, {1}, 0, 0, 0};
  Column from{{1e6, 1.5}, {}}, small{{0, 0}, {}}, codes{{}, {0, 0}};
  apply_block(cast, {DType::f32}, {&from}, small, 2, true);
  EXPECT_EQ(small.reals[0], infinity);
  apply_block(bits, {DType::f8e5m2}, {&small}, codes, 2, true);
  EXPECT_EQ(codes.integers, (std::vector<int64_t>{0x7C, 0x3E}));  // exponent all ones; 2^0 · 1.5
}

TEST(Scalar, BlocksRoundToTheirDtype) {
  double values[] = {1.0 / 3, 65504 + 32};
  round_block(DType::f16, values, 2);
  EXPECT_EQ(values[0], 1365.0 / 4096);  // 11 significant bits
  EXPECT_EQ(values[1], infinity);
  int64_t whole[] = {200, -129};
  wrap_block(DType::i8, whole, 2);
  EXPECT_EQ(whole[0], -56);
  EXPECT_EQ(whole[1], 127);
}

}  // namespace
}  // namespace tilewright::pattern
