#include "tile/types.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tile {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
const float nan = std::numeric_limits<float>::quiet_NaN();

/// The value of a code by the definition of the format, in exact double arithmetic.
double by_definition(uint32_t code, int exponent_bits, int mantissa_bits, int bias) {
  const uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
  const uint32_t exponent = code >> mantissa_bits & ((1u << exponent_bits) - 1);
  const bool negative = code >> (mantissa_bits + exponent_bits) & 1;
  const double fraction = mantissa / std::ldexp(1.0, mantissa_bits);
  const double v = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, static_cast<int>(exponent) - bias);
  return negative ? -v : v;
}

/// Checks decoding of all finite codes, and that encoding any value picks the nearest finite code, ties to the even one.
template <class T>
void check_format(int exponent_bits, int mantissa_bits, int bias, uint32_t greatest) {
  std::vector<double> finite;
  for (uint32_t code = 0; code <= greatest; ++code) {
    const double expected = by_definition(code, exponent_bits, mantissa_bits, bias);
    T t{static_cast<decltype(T::bits)>(code)};
    ASSERT_EQ(load_as<float>(t), static_cast<float>(expected)) << code;
    finite.push_back(expected);
    const uint32_t negative = code | 1u << (exponent_bits + mantissa_bits);
    if (code == 0) continue;
    t.bits = static_cast<decltype(T::bits)>(negative);
    ASSERT_EQ(load_as<float>(t), -static_cast<float>(expected)) << code;
  }
  auto nearest = [&](double v) {
    uint32_t best = 0;
    for (uint32_t code = 1; code <= greatest; ++code) {
      const double closer = std::fabs(finite[best] - v) - std::fabs(finite[code] - v);
      if (closer > 0 || (closer == 0 && code % 2 == 0)) best = code;
    }
    return best;
  };
  std::mt19937 random(7);
  std::uniform_real_distribution<double> at(0, 1);
  for (size_t i = 0; i + 1 < finite.size(); i += sizeof(T) == 1 ? 1 : 37) {
    const double low = finite[i], high = finite[i + 1];
    for (double share : {0.0, 0.5, at(random), 0.25, 0.5 - 1e-12, 0.5 + 1e-12}) {
      const double v = low + (high - low) * share;
      ASSERT_EQ(store_as<T>(v).bits, nearest(v)) << v;
      const float narrow = static_cast<float>(v);
      ASSERT_EQ(store_as<T>(narrow).bits, nearest(narrow)) << narrow;
      if (store_as<T>(-v).bits != 0) {
        ASSERT_EQ(load_as<float>(store_as<T>(-v)), -finite[nearest(v)]);
      }
    }
  }
}

TEST(SmallFloats, FollowTheirFormats) {
  check_format<float16>(5, 10, 15, 0x7bff);
  check_format<f8e4m3fn>(4, 3, 7, 0x7e);
  check_format<f8e4m3fnuz>(4, 3, 8, 0x7f);
  check_format<f8e5m2>(5, 2, 15, 0x7b);
  check_format<f8e5m2fnuz>(5, 2, 16, 0x7f);
  check_format<f4e2m1>(2, 1, 1, 0x7);
}

TEST(SmallFloats, SoftwareHalfEqualsItsFormat) {
  for (uint32_t code = 0; code < 0x7c00; ++code) {
    const float v = static_cast<float>(by_definition(code, 5, 10, 15));
    ASSERT_EQ(detail::widen<float16>(code), v);
    ASSERT_EQ((detail::narrow<float16, false>(v)), code);
    ASSERT_EQ((detail::narrow<float16, false>(-v)), code | 0x8000);
  }
  EXPECT_EQ((detail::narrow<float16, false>(65519.99f)), 0x7bffu);
  EXPECT_EQ((detail::narrow<float16, false>(65520.0f)), 0x7c00u);
  EXPECT_EQ((detail::narrow<float16, false>(-inf)), 0xfc00u);
  EXPECT_EQ((detail::narrow<float16, false>(nan)) & 0x7e00, 0x7e00u);
  EXPECT_EQ(detail::widen<float16>(0x7c00), inf);
  EXPECT_EQ(detail::widen<float16>(0xfc00), -inf);
  EXPECT_TRUE(std::isnan(detail::widen<float16>(0x7c01)));
}

// Expected codes: ONNX "Float stored in 8 bits", tables of Cast, and its conformance cases cast_FLOAT_to_FLOAT8….
TEST(SmallFloats, OverflowAsOnnxCast) {
  struct Row {
    float value;
    uint8_t e4m3fn, e4m3fnuz, e5m2, e5m2fnuz;
  };
  for (const Row& r : {Row{1e6f, 0x7e, 0x7f, 0x7b, 0x7f}, Row{-1e6f, 0xfe, 0xff, 0xfb, 0xff}, Row{inf, 0x7e, 0x7f, 0x7b, 0x7f},
                       Row{-inf, 0xfe, 0xff, 0xfb, 0xff}, Row{nan, 0x7f, 0x80, 0x7e, 0x80}, Row{-0.0f, 0x80, 0, 0x80, 0}, Row{-1e-7f, 0x80, 0, 0x80, 0}}) {
    EXPECT_EQ(store_as<f8e4m3fn>(r.value).bits, r.e4m3fn) << r.value;
    EXPECT_EQ(store_as<f8e4m3fnuz>(r.value).bits, r.e4m3fnuz) << r.value;
    EXPECT_EQ(store_as<f8e5m2>(r.value).bits, r.e5m2) << r.value;
    EXPECT_EQ(store_as<f8e5m2fnuz>(r.value).bits, r.e5m2fnuz) << r.value;
  }
  for (const Row& r : {Row{1e6f, 0x7f, 0x80, 0x7c, 0x80}, Row{-1e6f, 0xff, 0x80, 0xfc, 0x80}, Row{inf, 0x7f, 0x80, 0x7c, 0x80},
                       Row{-inf, 0xff, 0x80, 0xfc, 0x80}, Row{nan, 0x7f, 0x80, 0x7e, 0x80}, Row{-0.0f, 0x80, 0, 0x80, 0}}) {
    EXPECT_EQ((store_as<f8e4m3fn, false>(r.value).bits), r.e4m3fn) << r.value;
    EXPECT_EQ((store_as<f8e4m3fnuz, false>(r.value).bits), r.e4m3fnuz) << r.value;
    EXPECT_EQ((store_as<f8e5m2, false>(r.value).bits), r.e5m2) << r.value;
    EXPECT_EQ((store_as<f8e5m2fnuz, false>(r.value).bits), r.e5m2fnuz) << r.value;
  }
  EXPECT_EQ(store_as<f4e2m1>(inf).bits, 7);
  EXPECT_EQ(store_as<f4e2m1>(-inf).bits, 15);
  EXPECT_EQ(store_as<f4e2m1>(nan).bits, 8);
  EXPECT_EQ(store_as<f4e2m1>(-0.0f).bits, 8);
  EXPECT_TRUE(std::isnan(load_as<float>(f8e4m3fn{0xff})));
  EXPECT_TRUE(std::isnan(load_as<float>(f8e4m3fnuz{0x80})));
  EXPECT_EQ(load_as<float>(f8e5m2{0xfc}), -inf);
  EXPECT_TRUE(std::isnan(load_as<float>(f8e5m2{0x7d})));
}

TEST(SmallFloats, ScalesArePowersOfTwo) {
  for (int code = 0; code < 255; ++code) {
    const float v = load_as<float>(f8e8m0{static_cast<uint8_t>(code)});
    ASSERT_EQ(v, std::ldexp(1.0f, code - 127));
    for (auto rounding : {E8M0Rounding::up, E8M0Rounding::down, E8M0Rounding::nearest}) {
      ASSERT_EQ(to_f8e8m0(v, rounding).bits, code);
    }
    if (code == 254) break;
    ASSERT_EQ(to_f8e8m0(v * 1.25f).bits, code + 1);
    ASSERT_EQ(to_f8e8m0(v * 1.25f, E8M0Rounding::nearest).bits, code);
    ASSERT_EQ(to_f8e8m0(v * 1.75f, E8M0Rounding::nearest).bits, code + 1);
    ASSERT_EQ(to_f8e8m0(v * 1.75f, E8M0Rounding::down).bits, code);
  }
  EXPECT_EQ(to_f8e8m0(0.0f).bits, 0);
  EXPECT_EQ(to_f8e8m0(inf).bits, 254);
  EXPECT_EQ(to_f8e8m0<false>(inf).bits, 255);
  EXPECT_EQ(to_f8e8m0(nan).bits, 255);
  EXPECT_EQ(to_f8e8m0(-1.0f).bits, 255);
}

TEST(BFloat16, RoundsToNearestEven) {
  for (uint32_t code = 0; code < 0x7f80; code += 3) {
    const float low = load_as<float>(bfloat16{static_cast<uint16_t>(code)});
    const uint32_t bits = code << 16;
    EXPECT_EQ(store_as<bfloat16>(low).bits, code);
    EXPECT_EQ(store_as<bfloat16>(bit_cast<float>(bits + 0x7fff)).bits, code);
    EXPECT_EQ(store_as<bfloat16>(bit_cast<float>(bits + 0x8000)).bits, code + (code & 1));
    EXPECT_EQ(store_as<bfloat16>(bit_cast<float>(bits + 0x8001)).bits, code + 1);
  }
  EXPECT_EQ(store_as<bfloat16>(inf).bits, 0x7f80);
  EXPECT_TRUE(std::isnan(load_as<float>(store_as<bfloat16>(bit_cast<float>(0x7f800001u)))));
  // Just above a tie: rounding to float first would fall on the tie and then to even.
  EXPECT_EQ(store_as<bfloat16>(1.0 + std::ldexp(1.0, -8) + std::ldexp(1.0, -40)).bits, 0x3f81);
}

}  // namespace
}  // namespace tile
