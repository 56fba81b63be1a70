#include "tile/vector_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

namespace tile {
namespace {

constexpr int n = lanes<float>;
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Zeros, ends of the range, NaN, and floats of all sizes.
std::vector<float> floats() {
  std::vector<float> all = {0.0f, -0.0f, 1.0f, -1.0f, 6.0f, 3.4e38f, -3.4e38f, 1e-40f, -1e-44f, infinity, -infinity, std::numeric_limits<float>::quiet_NaN()};
  std::mt19937 random(3);
  std::uniform_int_distribution<uint32_t> bits;
  while (all.size() < 100000) all.push_back(bit_cast<float>(bits(random)));
  return all;
}

/// As std::bit_cast of what is the same number: all NaN are, both zeros are not.
bool same(float a, float b) { return (std::isnan(a) && std::isnan(b)) || bit_cast<uint32_t>(a) == bit_cast<uint32_t>(b); }

TEST(VectorMath, LimitsOfVectorsAreThoseOfElements) {
  const std::vector<float> values = floats();
  for (size_t i = 0; i + 2 * n <= values.size(); i += n) {
    const vec<float> a = load(values.data() + i), b = load(values.data() + i + n), low = max(a, 0.0f), high = min(a, 6.0f);
    const vec<float> larger = max(a, b), smaller = min(a, b), by_name = max(b[0], a);
    for (int lane = 0; lane < n; ++lane) {
      // Zeros of both signs are the same to a limit.
      if (a[lane] == 0) continue;
      ASSERT_TRUE(same(low[lane], max(a[lane], 0.0f))) << a[lane];
      ASSERT_TRUE(same(high[lane], min(a[lane], 6.0f))) << a[lane];
      ASSERT_TRUE(same(larger[lane], max(a[lane], b[lane]))) << a[lane] << " " << b[lane];
      ASSERT_TRUE(same(smaller[lane], min(a[lane], b[lane]))) << a[lane] << " " << b[lane];
      ASSERT_TRUE(same(by_name[lane], max(a[lane], b[0]))) << a[lane] << " " << b[0];
    }
  }
}

TEST(VectorMath, QuotientsByOneNumberAreTheNearestFloats) {
  const std::vector<float> values = floats();
  for (const float divisor :
       {1.0f, 3.0f, 7.0f, 9.0f, 49.0f, 288.0f, -0.3f, 1.0f / 3, 0.999999940f, 1.00000012f, 1.99999988f, 1e20f, 1e-20f, 1e-38f, 1e38f, 0.0f, infinity}) {
    for (size_t i = 0; i + n <= values.size(); i += n) {
      const vec<float> v = load(values.data() + i), quotient = divide(v, divisor);
      for (int lane = 0; lane < n; ++lane) {
        const float expected = v[lane] / divisor, size = std::fabs(expected);
        const bool at_an_end = (v[lane] != 0 && std::fabs(v[lane]) < 0x1p-100f) || (size != 0 && size < 0x1p-126f) || size > 3.3e38f;
        if (std::isfinite(expected) && at_an_end) {
          const float up = std::nextafter(expected, infinity), down = std::nextafter(expected, -infinity);
          ASSERT_TRUE(quotient[lane] >= down && quotient[lane] <= up) << v[lane] << " / " << divisor << ": " << quotient[lane] << ", not " << expected;
          continue;
        }
        ASSERT_TRUE(same(quotient[lane], expected)) << v[lane] << " / " << divisor << ": " << quotient[lane] << ", not " << expected;
      }
    }
  }
}

TEST(VectorMath, SigmoidIsNearTheExactOne) {
  std::vector<float> values = floats();
  for (int i = 0; i < 200000; ++i) values.push_back(static_cast<float>(i - 100000) * 0.000873f);
  double worst = 0;
  for (size_t i = 0; i + n <= values.size(); i += n) {
    const vec<float> x = load(values.data() + i), y = sigmoid(x);
    for (int lane = 0; lane < n; ++lane) {
      const double exact = 1 / (1 + std::exp(-static_cast<double>(x[lane])));
      if (std::isnan(x[lane])) {
        ASSERT_TRUE(std::isnan(y[lane]));
        continue;
      }
      // What is below the normal numbers may be zero.
      const double distance = std::fabs(y[lane] - exact), unit = std::ldexp(1.0, std::ilogb(exact) - 23);
      if (exact < 0x1.1p-126 && y[lane] == 0) continue;
      worst = std::max(worst, distance / unit);
      ASSERT_LE(distance, 2.3 * unit) << x[lane];
    }
  }
  std::printf("sigmoid  %.3f ulp\n", worst);
}

}  // namespace
}  // namespace tile
