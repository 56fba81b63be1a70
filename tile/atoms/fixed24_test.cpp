#include "tile/atoms/fixed24.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tile/kernels/contract_rows.h"
#include "tile/testing/teams.h"

namespace tile {
namespace {

constexpr int32_t largest = (1 << 23) - 1;

Fixed24 bytes_of(int32_t number) {
  const auto bits = static_cast<uint32_t>(number);
  return {{static_cast<uint8_t>(bits & 0xff), static_cast<uint8_t>(bits >> 8 & 0xff), static_cast<uint8_t>(bits >> 16 & 0xff)}};
}

/// test_native compiles this file for the machine that builds it, and says what that lacks.
TEST(Fixed24, BytesFindTheirPlacesByOneShuffle) {
#if !defined(__AVX512VBMI__)
  GTEST_SKIP() << "compiled for a machine without vpermb";
#endif
}

TEST(Fixed24, AVectorReadsNothingBehindItsBytesAndLittleBefore) {
  constexpr size_t bytes = sizeof(Fixed24) * static_cast<size_t>(lanes<float>);
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  auto* const memory = static_cast<char*>(mmap(nullptr, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(memory + page, page, PROT_READ | PROT_WRITE), 0);
  std::memset(memory + page, 0xff, page);
  std::mt19937 random(1);
  std::vector<int32_t> numbers = {0, 1, -1, largest, -largest, 255, 256, -255, -256, 65535, 65536, -65536, 0x7f80ff, -0x7f80ff, 0x008000, 0x800};
  for (int i = 0; i < 4000; ++i) numbers.push_back(static_cast<int32_t>(random() % (2 * largest + 1)) - largest);
  for (char* const at : {memory + page + fixed24_bytes_before, memory + 2 * page - bytes})
    for (size_t first = 0; first + lanes<float> <= numbers.size(); ++first) {
      auto* const from = reinterpret_cast<Fixed24*>(at);
      vec<float> units;
      for (int j = 0; j < lanes<float>; ++j) {
        from[j] = bytes_of(numbers[first + static_cast<size_t>(j)]);
        units[j] = std::ldexp(1.0F, j - 20);
      }
      const vec<float> weights = Dot<float, Fixed24>::load_lanes(from, units);
      for (int j = 0; j < lanes<float>; ++j)
        ASSERT_EQ(static_cast<double>(weights[j]), std::ldexp(static_cast<double>(numbers[first + static_cast<size_t>(j)]), j - 12)) << "lane " << j;
    }
  munmap(memory, 3 * page);
}

/// A product of rows [m, k] with weights [k, n], all of them floats: by weights of 24 bits.
template <i64 k, int rows, int vectors>
std::vector<float> product(const std::vector<float>& left, const std::vector<float>& weights, int threads = 1) {
  using Block = RowBlocks<float, rows, vectors, k, Fixed24>;
  const i64 m = static_cast<i64>(left.size()) / k, n = static_cast<i64>(weights.size()) / k, panels = (n + Block::columns - 1) / Block::columns;
  std::vector<Fixed24> packed(static_cast<size_t>(panels * Block::columns * (k + fixed24_unit_rows)));
  pack_fixed24(packed.data(), n, k, Block::columns, [&](i64 column, i64 at) { return weights[static_cast<size_t>(at * n + column)]; });
  testing::TestTeam team(threads);
  std::vector<float> out(static_cast<size_t>(m * n), 77);
  contract_rows<Block>(1, n, MatrixRows<float, float, rows, k>{left.data(), k, m, k}, Fixed24Panels<Block::columns>{packed.data(), k},
                       [&](i64, i64 m0, i64 n0, i64 count, auto columns, const float* tile, auto ld) {
                         for (i64 i = 0; i < count; ++i)
                           for (i64 j = 0; j < columns; ++j) out.at(static_cast<size_t>((m0 + i) * n + n0 + j)) = tile[i * ld + j];
                       },
                       team.team(), {.panel_bytes = 1 << 12});
  return out;
}

std::vector<float> normal_floats(i64 count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

/// `peak`: of one weight of each column, if it is above zero.
template <i64 k, int rows, int vectors>
void expect_accuracy(i64 m, i64 n, unsigned seed, float peak = 0) {
  const std::vector<float> left = normal_floats(m * k, seed);
  std::vector<float> weights = normal_floats(k * n, seed + 1);
  for (i64 j = 0; j < n && peak > 0; ++j) weights[static_cast<size_t>(j % k * n + j)] = peak;
  for (const int threads : {1, 3}) {
    const std::vector<float> out = product<k, rows, vectors>(left, weights, threads);
    double error = 0, of_chain = 0, magnitude = 0;
    for (i64 i = 0; i < m; ++i)
      for (i64 j = 0; j < n; ++j) {
        double expected = 0, length = 0;
        float chain = 0;
        for (i64 at = 0; at < k; ++at) {
          const float a = left[static_cast<size_t>(i * k + at)], weight = weights[static_cast<size_t>(at * n + j)];
          const double term = static_cast<double>(a) * static_cast<double>(weight);
          expected += term, length += std::abs(term), chain = std::fma(a, weight, chain);
        }
        const double wrong = static_cast<double>(out[static_cast<size_t>(i * n + j)]) - expected, of_floats = static_cast<double>(chain) - expected;
        ASSERT_LT(std::abs(wrong), 2e-6 * length) << i << ", " << j << " of " << m << "x" << n << "x" << k;
        error += wrong * wrong, of_chain += of_floats * of_floats, magnitude += expected * expected;
      }
    if (k >= 512) {
      EXPECT_LT(error, of_chain) << m << "x" << n << "x" << k;
    } else {  // Roundings of a chain of 128 come to 0.41 · 2^-24 · √128, those of weights to 0.58 · 2^-24 of the largest one, four times their mean.
      EXPECT_LT(std::sqrt(error / magnitude), 0x1p-24 * std::hypot(0.41 * std::sqrt(std::min<double>(k, 128)), 0.58 * 4) * 1.1) << m << "x" << n << "x" << k;
    }
  }
}

TEST(Fixed24, ProductsOfFewRowsErrAsFloatsDo) {
  expect_accuracy<300, 1, 4>(1, 101, 1);
  expect_accuracy<301, 2, 3>(2, 37, 3);
  expect_accuracy<77, 3, 2>(3, 90, 5);
  expect_accuracy<513, 4, 2>(4, 100, 7);
  expect_accuracy<40, 4, 1>(3, 23, 9);  // a strip of fewer rows
  expect_accuracy<7, 1, 1>(5, 9, 11);
  expect_accuracy<512, 4, 2>(4, 400, 13, 8.5F);  // columns about as uneven as they may be: p² is 63
}

TEST(Fixed24, AWeightIsWithinHalfAUnit) {
  constexpr i64 k = 64, n = 50;
  for (const float scale : {1.0F, 0x1p-59F, 0x1p57F, 3e-5F}) {
    std::vector<float> weights = normal_floats(k * n, 13);
    for (float& weight : weights) weight *= scale;
    for (i64 at = 0; at < k; ++at) {
      std::vector<float> left(k);
      left[static_cast<size_t>(at)] = 1;
      const std::vector<float> out = product<k, 1, 4>(left, weights);
      for (i64 j = 0; j < n; ++j) {
        float top = 0;
        for (i64 i = 0; i < k; ++i) top = std::max(top, std::abs(weights[static_cast<size_t>(i * n + j)]));
        const auto weight = static_cast<double>(weights[static_cast<size_t>(at * n + j)]);
        const double units = static_cast<double>(top) * 0x1p-24 * (1 + 0x1p-20);
        ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(j)]), weight, units + std::abs(weight) * 0x1p-23) << at << ", " << j << " times " << scale;
      }
    }
  }
}

/// The weight that meets the one element of a row that is not zero stands beside `beside`, in a column of its own, and beside a column of zeros.
float met(float element, float weight, float beside) {
  constexpr i64 k = 5;
  const std::vector<float> left = {0, element, 0, 0, 0}, weights = {beside, 0, weight, 0, 0, 0, 0, 0, 0, 0};
  return product<k, 1, 1>(left, weights)[0];
}

TEST(Fixed24, InfinitiesMeetTheSignsOfTheSmallestWeights) {
  const float limit = std::numeric_limits<float>::infinity();
  for (const float weight : {1.0F, 1e-3F, 1e-12F, 0x1p-149F})
    for (const float sign : {1.0F, -1.0F}) {
      EXPECT_EQ(met(limit, sign * weight, 1), sign * limit) << weight;
      EXPECT_EQ(met(-limit, sign * weight, 1), -sign * limit) << weight;
      EXPECT_TRUE(std::isnan(met(std::nanf(""), sign * weight, 1))) << weight;
    }
  EXPECT_TRUE(std::isnan(met(limit, 0, 1))) << "as zero times infinity is";
}

TEST(Fixed24, ResultsReachTheEndsOfTheRange) {
  const float most = std::numeric_limits<float>::max();
  EXPECT_NEAR(static_cast<double>(met(most, 1e-3F, 1) / 3.4028235e35F), 1, 1e-4);
  EXPECT_EQ(met(most, 1, 1), most);
  EXPECT_EQ(met(most, -0.5F, 0.5F), -most / 2);
  EXPECT_EQ(met(most, 2, 1), std::numeric_limits<float>::infinity());
  EXPECT_NEAR(static_cast<double>(met(0x1p-130F, 0.5F, 1)), 0x1p-131, 0x1p-149);
  EXPECT_EQ(met(3, 0, 0), 0);
}

}  // namespace
}  // namespace tile
