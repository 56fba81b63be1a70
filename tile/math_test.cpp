#include "tile/math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

namespace tile {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

/// Distance of `got` from `exact` in units of the last place that float has at `exact`.
double ulps(float got, double exact) {
  const float near = static_cast<float>(exact);
  if (std::isnan(got) || std::isnan(near)) return std::isnan(got) && std::isnan(near) ? 0 : 1e30;
  if (got == near) return 0;
  if (std::isinf(got) || std::isinf(near)) {
    if (std::isinf(got) && std::isinf(near)) return 1e30;
    // One beyond the largest float counts as 2^128.
    const double reached = std::isinf(got) ? std::copysign(0x1p128, got) : got;
    return std::fabs(reached - exact) / 0x1p104;
  }
  int exponent;
  std::frexp(exact, &exponent);
  return std::fabs(got - exact) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

struct Worst {
  double error = 0;
  float x = 0, y = 0;
  void see(float got, double exact, float at, float at_y = 0) {
    const double e = ulps(got, exact);
    if (e > error) *this = {e, at, at_y};
  }
};

constexpr float edges[] = {0.0f,          -0.0f,          1.0f,  -1.0f, 1e-45f,    -1e-45f,  1.17549435e-38f, -1.17549435e-38f,
                           3.4028235e38f, -3.4028235e38f, inf,   -inf,  88.72283f, 88.7229f, -87.3365f,       -103.97f,
                           -104.5f,       0.5f,           -0.5f, 9.1f};

/// Every 1009th float of both signs, dense in the exponents, and 200,000 in [-range, range].
template <class F, class Exact>
void expect_within(const char* name, double limit, F f, Exact exact, float range = 20, float largest = inf) {
  Worst worst;
  for (uint64_t bits = 0; bits < 0x100000000u; bits += 1009) {
    const float x = bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::fabs(x) <= largest) worst.see(f(x), exact(static_cast<double>(x)), x);
  }
  std::mt19937 random(3);
  std::uniform_real_distribution<float> in(-range, range);
  for (int i = 0; i < 200000; ++i) {
    const float x = in(random);
    worst.see(f(x), exact(static_cast<double>(x)), x);
  }
  for (float x : edges) {
    if (std::fabs(x) > largest) continue;
    worst.see(f(x), exact(static_cast<double>(x)), x);
    const double e = exact(static_cast<double>(x));
    if (e == 0) {
      EXPECT_EQ(std::signbit(f(x)), std::signbit(static_cast<float>(e))) << name << " sign of zero at " << x;
    }
  }
  const float of_nan = f(std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(std::isnan(of_nan)) << name;
  std::printf("%-8s %.3f ulp at %.9g\n", name, worst.error, static_cast<double>(worst.x));
  EXPECT_LE(worst.error, limit) << name << " at " << worst.x;
}

#define FLOAT(f) [](float x) { return f(x); }
#define EXACT(f) [](double x) { return std::f(x); }

TEST(Math, ErrorsStayWithinTheirBounds) {
#if !defined(__FMA__) && !defined(__aarch64__)
  GTEST_SKIP() << "the bounds are for machines with a multiply-add instruction, as all targets are: build with their -march";
#endif
  expect_within("exp", 0.9, FLOAT(exp), EXACT(exp), 110);
  expect_within(
      "exp_to_one", 0.9, [](float x) { return detail::exp_to_one(-std::fabs(x)); }, [](double x) { return std::exp(-std::fabs(x)); }, 87.3f, 87.3f);
  expect_within("exp2", 0.9, FLOAT(exp2), EXACT(exp2), 155);
  expect_within("expm1", 2.4, FLOAT(expm1), EXACT(expm1), 5);
  expect_within("log", 0.9, FLOAT(log), EXACT(log), 3);
  expect_within("log2", 1.3, FLOAT(log2), EXACT(log2), 3);
  expect_within("log1p", 0.9, FLOAT(log1p), EXACT(log1p), 3);
  expect_within("tanh", 2.6, FLOAT(tanh), EXACT(tanh), 10);
  expect_within("erf", 2.5, FLOAT(erf), EXACT(erf), 5);
  expect_within(
      "sigmoid", 2.3, FLOAT(sigmoid), [](double x) { return 1 / (1 + std::exp(-x)); }, 110);
  expect_within("sin", 1.5, FLOAT(sin), EXACT(sin), 100, 0x1p48f);
  expect_within("cos", 1.5, FLOAT(cos), EXACT(cos), 100, 0x1p48f);
}

TEST(Math, SineOfHugeArgumentsStaysInRange) {
  for (float x : {1e20f, -3e38f, 3.4e38f}) {
    EXPECT_LE(std::fabs(sin(x)), 1.0f);
    EXPECT_LE(std::fabs(cos(x)), 1.0f);
  }
  EXPECT_TRUE(std::isnan(sin(inf)));
  EXPECT_TRUE(std::isnan(cos(-inf)));
}

TEST(Math, ThirdPowersAreTwoProducts) {
  Worst worst;
  std::mt19937 random(6);
  std::uniform_real_distribution<float> log_x(-40, 40);
  for (int i = 0; i < 200000; ++i) {
    const float x = std::exp(log_x(random)) * (i % 2 == 0 ? 1.0f : -1.0f);
    worst.see(pow(x, 3.0f), std::pow(static_cast<double>(x), 3.0), x, 3.0f);
    EXPECT_EQ(pow(x, 3.0f), x * x * x) << "logarithms would round some of them in another way";
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (float x : {0.0f, -0.0f, 1.0f, -1.0f, inf, -inf, nan, 1e-45f, 1e-15f, 3.4e38f, -3.4e38f}) {
    const double exact = std::pow(static_cast<double>(x), 3.0);
    worst.see(pow(x, 3.0f), exact, x, 3.0f);
    EXPECT_EQ(std::signbit(pow(x, 3.0f)), std::signbit(exact)) << x;
  }
  EXPECT_LE(worst.error, 1.5) << worst.x;  // half of the last product, up to one of the square
}

TEST(Math, PowFollowsC) {
  Worst worst;
  std::mt19937 random(5);
  std::uniform_real_distribution<float> log_x(-30, 30), in_y(-6, 6), near(0.9f, 1.1f), wide(-1200, 1200);
  for (int i = 0; i < 400000; ++i) {
    float x = std::exp(log_x(random)), y = in_y(random);
    if (i % 3 == 1) x = near(random), y = wide(random);
    if (i % 3 == 2) x = -x, y = std::round(y);
    worst.see(pow(x, y), std::pow(static_cast<double>(x), static_cast<double>(y)), x, y);
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (float x : {0.0f, -0.0f, 1.0f, -1.0f, 0.5f, -0.5f, 2.0f, -2.0f, inf, -inf, nan, 1e-45f, 3.4e38f, -3.4e38f}) {
    for (float y : {0.0f, -0.0f, 1.0f, -1.0f, 2.0f, -2.0f, 3.0f, -3.0f, 0.5f, -0.5f, inf, -inf, nan, 1e10f, 16777217.0f}) {
      const double exact = std::pow(static_cast<double>(x), static_cast<double>(y));
      worst.see(pow(x, y), exact, x, y);
      if (exact == 0) {
        EXPECT_EQ(std::signbit(pow(x, y)), std::signbit(exact)) << x << " ^ " << y;
      }
    }
  }
  std::printf("%-8s %.3f ulp at %g ^ %g\n", "pow", worst.error, static_cast<double>(worst.x), static_cast<double>(worst.y));
  EXPECT_LE(worst.error, 0.6) << worst.x << " ^ " << worst.y;
  EXPECT_EQ(pow(2.0, 0.5), std::sqrt(2.0));
  EXPECT_EQ(pow(3, 4), 81);
  EXPECT_EQ(pow(int32_t{2}, int64_t{-1}), 0);
  EXPECT_EQ(pow(int8_t{-1}, -3), -1);
  EXPECT_EQ(pow(uint8_t{3}, 6), uint8_t{729 % 256});
  EXPECT_EQ(pow(3, 2.0f), 9);
  EXPECT_EQ(pow(2.0f, int64_t{10}), 1024.0f);
}

TEST(Math, IntegerDivisionFollowsPythonOrC) {
  for (int a = -20; a <= 20; ++a) {
    for (int b = -7; b <= 7; ++b) {
      const auto x = static_cast<int8_t>(a), y = static_cast<int8_t>(b);
      if (b == 0) {
        EXPECT_EQ(div(x, y), 0);
        EXPECT_EQ(mod(x, y), 0);
        EXPECT_EQ(fmod(x, y), 0);
        continue;
      }
      const int down = static_cast<int>(std::floor(static_cast<double>(a) / b));
      EXPECT_EQ(div(x, y), a / b);
      EXPECT_EQ(fmod(x, y), a % b);
      EXPECT_EQ(floor_div(x, y), down);
      EXPECT_EQ(mod(x, y), a - b * down);
      EXPECT_EQ(mod(static_cast<float>(a), static_cast<float>(b)), static_cast<float>(a - b * down));
    }
  }
  constexpr int64_t smallest = std::numeric_limits<int64_t>::min();
  EXPECT_EQ(div(smallest, int64_t{-1}), smallest);
  EXPECT_EQ(mod(smallest, int64_t{-1}), 0);
  EXPECT_EQ(div(uint32_t{4000000000u}, uint32_t{3}), 1333333333u);
  EXPECT_EQ(abs(std::numeric_limits<int32_t>::min()), std::numeric_limits<int32_t>::min());
}

TEST(Math, MinMaxAndSignKeepNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(max(nan, 1.0f)));
  EXPECT_TRUE(std::isnan(max(1.0f, nan)));
  EXPECT_TRUE(std::isnan(min(nan, 1.0f)));
  EXPECT_TRUE(std::isnan(min(1.0f, nan)));
  EXPECT_TRUE(std::isnan(sign(nan)));
  EXPECT_TRUE(std::isnan(clamp(nan, 0.0f, 1.0f)));
  EXPECT_EQ(max(-3, 2), 2);
  EXPECT_EQ(sign(-3.5f), -1.0f);
  EXPECT_EQ(sign(uint8_t{3}), 1);
  EXPECT_TRUE(is_inf(-inf));
  EXPECT_FALSE(is_inf(nan));
  EXPECT_FALSE(is_inf(3.0f));
}

TEST(Math, RoundsHalvesToEven) {
  EXPECT_EQ(round(0.5f), 0.0f);
  EXPECT_EQ(round(1.5f), 2.0f);
  EXPECT_EQ(round(-2.5), -2.0);
}

TEST(Math, SixteenBitTypesComputeInFloat) {
  for (float x : {-3.0f, 0.1f, 2.0f}) {
    const auto h = store_as<float16>(x);
    EXPECT_EQ(exp(h).bits, store_as<float16>(std::exp(load_as<float>(h))).bits);
    const auto b = store_as<bfloat16>(x);
    EXPECT_EQ(tanh(b).bits, store_as<bfloat16>(std::tanh(load_as<float>(b))).bits);
  }
}

TEST(Math, ShiftsBeyondTheWidthGiveZero) {
  EXPECT_EQ(shift_left(uint8_t{1}, uint8_t{7}), 128);
  EXPECT_EQ(shift_left(uint8_t{1}, uint8_t{8}), 0);
  EXPECT_EQ(shift_right(uint64_t{1} << 63, uint64_t{63}), 1u);
  EXPECT_EQ(shift_right(uint64_t{5}, uint64_t{64}), 0u);
}

}  // namespace
}  // namespace tile
