#include "base/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"

namespace tilewright {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Named {
  DType dtype;
  int exponent, mantissa, bias;
  double largest;
};

// Widths, biases and largest values as the format papers give them.
const Named formats[] = {
    {DType::f16, 5, 10, 15, 65504},   {DType::bf16, 8, 7, 127, 0x1.FEp127}, {DType::f8e4m3fn, 4, 3, 7, 448}, {DType::f8e4m3fnuz, 4, 3, 8, 240},
    {DType::f8e5m2, 5, 2, 15, 57344}, {DType::f8e5m2fnuz, 5, 2, 16, 57344}, {DType::f4e2m1, 2, 1, 1, 6},
};

double value_of(DType t, uint32_t code) {
  uint64_t raw = code;
  return read_float(t, &raw, 0);
}

uint32_t code_of(DType t, double v) {
  uint64_t raw = 0;
  write_float(t, &raw, 0, v);
  return static_cast<uint32_t>(raw);
}

TEST(DType, EveryPatternReadsAsTheDefinitionSaysAndRoundTrips) {
  for (const Named& f : formats) {
    const uint32_t codes = 1u << bits_of(f.dtype), sign = codes / 2;
    for (uint32_t c = 0; c < codes; ++c) {
      const double v = value_of(f.dtype, c);
      if (std::isnan(v)) {
        if (f.dtype != DType::f4e2m1) {
          EXPECT_TRUE(std::isnan(value_of(f.dtype, code_of(f.dtype, v))));
        }
        continue;
      }
      if (std::isfinite(v)) {
        const uint32_t magnitude = c & (sign - 1);
        const int e = static_cast<int>(magnitude >> f.mantissa);
        const double fraction = static_cast<double>(magnitude & ((1u << f.mantissa) - 1)) / std::pow(2, f.mantissa);
        const double expected = e == 0 ? std::ldexp(fraction, 1 - f.bias) : std::ldexp(1 + fraction, e - f.bias);
        ASSERT_EQ(std::fabs(v), expected) << name(f.dtype) << " " << c;
        ASSERT_EQ(std::signbit(v), (c & sign) != 0);
        ASSERT_LE(std::fabs(v), f.largest);
        ASSERT_EQ(code_of(f.dtype, v), c) << name(f.dtype);
      } else if (bits_of(f.dtype) == 16) {
        ASSERT_EQ(code_of(f.dtype, v), c);
      }
    }
    EXPECT_EQ(round_to(f.dtype, f.largest), f.largest);
  }
}

TEST(DType, RoundsToTheNearestAndTiesToTheEvenCode) {
  for (const Named& f : formats) {
    const uint32_t sign = 1u << (bits_of(f.dtype) - 1);
    for (uint32_t c = 0; c + 1 < sign; ++c) {
      const double low = value_of(f.dtype, c), high = value_of(f.dtype, c + 1);
      if (!std::isfinite(low) || !std::isfinite(high)) continue;
      const double middle = (low + high) / 2;  // exact: one bit more than the format
      const uint32_t even = c % 2 == 0 ? c : c + 1;
      ASSERT_EQ(code_of(f.dtype, middle), even) << name(f.dtype) << " between " << low << " and " << high;
      ASSERT_EQ(code_of(f.dtype, std::nextafter(middle, -infinity)), c);
      ASSERT_EQ(code_of(f.dtype, std::nextafter(middle, infinity)), c + 1);
      if (even != 0) {
        ASSERT_EQ(code_of(f.dtype, -middle), even | sign);
      }
    }
    EXPECT_EQ(round_to(f.dtype, 5e-324), 0.0);
  }
}

TEST(DType, OverflowFollowsOnnxCast) {
  EXPECT_EQ(round_to(DType::f16, 65519.99), 65504);
  EXPECT_EQ(round_to(DType::f16, 65520), infinity);
  EXPECT_EQ(round_to(DType::bf16, -1e300), -infinity);
  for (const DType t : {DType::f8e4m3fn, DType::f8e4m3fnuz, DType::f8e5m2, DType::f8e5m2fnuz}) {
    const double largest = t == DType::f8e4m3fn ? 448 : t == DType::f8e4m3fnuz ? 240 : 57344;
    for (const double v : {1e6, infinity}) {
      EXPECT_EQ(round_to(t, v, true), largest);
      EXPECT_EQ(round_to(t, -v, true), -largest);
      if (t == DType::f8e5m2)
        EXPECT_EQ(round_to(t, -v, false), -infinity);
      else
        EXPECT_TRUE(std::isnan(round_to(t, v, false)));
    }
    EXPECT_TRUE(std::isnan(round_to(t, NAN)));
  }
  EXPECT_EQ(round_to(DType::f8e4m3fn, 464, false), 448);  // the tie below the first code beyond
  EXPECT_FALSE(std::signbit(round_to(DType::f8e4m3fnuz, -0.0)));
  EXPECT_TRUE(std::signbit(round_to(DType::f8e5m2, -0.0)));
  EXPECT_EQ(code_of(DType::f4e2m1, NAN), 8u);
  EXPECT_EQ(round_to(DType::f4e2m1, -infinity), -6);
}

TEST(DType, ScalesArePowersOfTwo) {
  for (uint32_t c = 0; c < 255; ++c) {
    EXPECT_EQ(value_of(DType::f8e8m0, c), std::ldexp(1.0, static_cast<int>(c) - 127));
    EXPECT_EQ(code_of(DType::f8e8m0, value_of(DType::f8e8m0, c)), c);
  }
  EXPECT_TRUE(std::isnan(value_of(DType::f8e8m0, 255)));
  EXPECT_EQ(round_to_scale(1.5, ScaleRounding::nearest), 2);
  EXPECT_EQ(round_to_scale(1.49, ScaleRounding::nearest), 1);
  EXPECT_EQ(round_to_scale(1.01, ScaleRounding::up), 2);
  EXPECT_EQ(round_to_scale(1.99, ScaleRounding::down), 1);
  EXPECT_EQ(round_to_scale(1e300, ScaleRounding::up), 0x1p127);
  EXPECT_TRUE(std::isnan(round_to_scale(1e300, ScaleRounding::up, false)));
}

TEST(DType, F32RoundsOnce) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 10000; ++i) {
    const float v = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isnan(v)) continue;
    EXPECT_EQ(round_to(DType::f32, static_cast<double>(v)), static_cast<double>(v));
    // bf16 by the definition of round to nearest even on the float's bits.
    const uint32_t bits = std::bit_cast<uint32_t>(v);
    if (std::isfinite(v)) {
      EXPECT_EQ(code_of(DType::bf16, static_cast<double>(v)), (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }
  }
}

TEST(DType, IntegersWrap) {
  EXPECT_EQ(wrap_to(DType::i4, 8), -8);
  EXPECT_EQ(wrap_to(DType::u4, -1), 15);
  EXPECT_EQ(wrap_to(DType::i2, 2), -2);
  EXPECT_EQ(wrap_to(DType::u8, 257), 1);
  EXPECT_EQ(wrap_to(DType::i32, int64_t{1} << 31), INT32_MIN);
  EXPECT_EQ(wrap_to(DType::i64, INT64_MIN), INT64_MIN);
  EXPECT_EQ(wrap_to(DType::boolean, 256), 1);
  for (int i = 0; i < dtype_count; ++i) {
    const auto t = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(name(t)), t);
    if (!is_integer(t)) continue;
    for (const int64_t v : {int64_t{0}, int64_t{1}, int64_t{-1}, int64_t{127}, int64_t{-128}, int64_t{300}}) {
      uint64_t raw = 0;
      write_int(t, &raw, 0, v);
      EXPECT_EQ(read_int(t, &raw, 0), wrap_to(t, v)) << name(t);
    }
  }
  EXPECT_THROW(parse_dtype("float"), Error);
}

TEST(DType, ConvertTruncatesRoundsAndTestsForZero) {
  const std::vector<float> source{-1.9f, 0.0f, 2.5f, 300.0f};
  const Tensor t = Tensor::from_floats(source, {4});
  EXPECT_EQ(t.cast_to(DType::i32).ints(), (std::vector<int64_t>{-1, 0, 2, 300}));
  EXPECT_EQ(t.cast_to(DType::i8).ints(), (std::vector<int64_t>{-1, 0, 2, 44}));
  EXPECT_EQ(t.cast_to(DType::boolean).ints(), (std::vector<int64_t>{1, 0, 1, 1}));
  const int64_t big = (int64_t{1} << 53) + (int64_t{1} << 29) + 1;  // through double it would lose the 1 and tie
  float direct = 0;
  convert(DType::i64, &big, DType::f32, &direct, 1);
  EXPECT_EQ(direct, static_cast<float>(big));
  const uint64_t top = ~uint64_t{0};
  double as_double = 0;
  convert(DType::u64, &top, DType::f64, &as_double, 1);
  EXPECT_EQ(as_double, 0x1p64);
}

TEST(Tensor, CopiesShareUntilWritten) {
  Tensor a = Tensor::from_ints({1, 2, 3});
  const Tensor b = a;
  EXPECT_EQ(a.data(), b.data());
  a.set_int(0, 7);
  EXPECT_EQ(b.int_at(0), 1);
  EXPECT_EQ(a.int_at(0), 7);
  const int64_t outside[] = {4, 5};
  Tensor view(DType::i64, {2}, outside, nullptr);
  view.set_int(0, 9);
  EXPECT_EQ(outside[0], 4);
  EXPECT_EQ(view.int_at(0), 9);
  EXPECT_TRUE(b.same_bytes(Tensor::from_ints({1, 2, 3})));
  EXPECT_FALSE(b.same_bytes(b.reshaped({3, 1})));
}

TEST(Tensor, ImpossibleSizesAreInvalidInput) {
  EXPECT_THROW(Tensor(DType::f32, {-1}), Error);
  EXPECT_THROW(Tensor(DType::f32, {int64_t{1} << 40, int64_t{1} << 40}), Error);
  EXPECT_EQ(Tensor(DType::f32, {int64_t{1} << 40, 0, int64_t{1} << 40}).element_count(), 0);
  EXPECT_THROW(Tensor(DType::f32, {2}).reshaped({3}), Error);
}

}  // namespace
}  // namespace tilewright
