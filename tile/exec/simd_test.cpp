#include "tile/exec/simd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tile {
namespace {

/// What rounds in interesting ways, and NaN, infinities, subnormals of both formats: a count that fills no last vector.
std::vector<float> floats() {
  std::vector<float> all = {0.0f, -0.0f, 1.0f, 65504.0f, 65519.9f, 65520.0f, -1e6f, 3.4e38f, -3.4e38f, 1e-40f, -1e-44f, 6e-8f, 2.9e-8f, 5.96e-8f, 1e-5f};
  for (const float special : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    all.push_back(special);
  std::mt19937 random(3);
  std::uniform_int_distribution<uint32_t> bits;
  for (int i = 0; i < 100003; ++i) all.push_back(bit_cast<float>(bits(random)));
  // Halfway between two bfloats, and beside it.
  for (uint32_t i = 0; i < 4000; ++i) all.push_back(bit_cast<float>(0x3f000000u + (i / 3 << 16) + 0x7fffu + i % 3));
  // The same of half precision.
  for (uint32_t i = 0; i < 4000; ++i) all.push_back(bit_cast<float>(0x3f000000u + (i / 3 << 13) + 0xfffu + i % 3));
  return all;
}

template <class T>
void expect_rows_like_elements() {
  const std::vector<float> from = floats();
  std::vector<T> to(from.size() + 1, T{0x1234});
  // Short rows, too: many have no subnormals, which stop instructions that take several vectors.
  constexpr size_t rows[] = {18, 64, 96, 33};
  size_t at = 0;
  for (size_t i = 0; at < from.size(); ++i) {
    const size_t count = std::min(i < 3000 ? rows[i % 4] : from.size(), from.size() - at);
    narrow_row(from.data() + at, static_cast<i64>(count), to.data() + at);
    at += count;
  }
  EXPECT_EQ(to.back().bits, 0x1234);
  std::vector<float> back(from.size());
  widen_row(to.data(), static_cast<i64>(from.size()), back.data());
  for (size_t i = 0; i < from.size(); ++i) {
    const T expected = store_as<T>(from[i]);
    if (std::isnan(from[i])) {
      ASSERT_TRUE(std::isnan(to_float(to[i])) && std::isnan(back[i])) << i;
      continue;
    }
    ASSERT_EQ(to[i].bits, expected.bits) << from[i];
    ASSERT_EQ(bit_cast<uint32_t>(back[i]), bit_cast<uint32_t>(to_float(expected))) << from[i];
  }
}

TEST(Simd, RowsOfShortFloatsAreRoundedAsElementsAre) {
  expect_rows_like_elements<bfloat16>();
  expect_rows_like_elements<float16>();
}

template <class T>
void expect_vectors_like_elements() {
  std::vector<float> from = floats();
  from.resize(from.size() / 7 * 7);
  std::vector<T> to(from.size() + 1, T{0x1234});
  const auto count = static_cast<i64>(from.size());
  std::vector<int> times(from.size(), 0);
  const i64 end = in_vectors<4>(count, [&](i64 first, auto vectors) {
    vec<float> values[vectors];
    for (int i = 0; i < vectors; ++i) values[i] = load(from.data() + first + i * lanes<float>);
    store_rounded(to.data() + first, values);
    for (i64 i = 0; i < vectors * lanes<float>; ++i) ++times[static_cast<size_t>(first + i)];
  });
  ASSERT_EQ(end, count / lanes<float> * lanes<float>);
  for (i64 i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    ASSERT_EQ(times[at], i < end ? 1 : 0) << i;
    if (i >= end || std::isnan(from[at])) continue;
    ASSERT_EQ(to[at].bits, store_as<T>(from[at]).bits) << from[at];
  }
}

TEST(Simd, VectorsOfShortFloatsAreRoundedAsElementsAre) {
  expect_vectors_like_elements<bfloat16>();
  expect_vectors_like_elements<float16>();
}

constexpr int n = lanes<float>;

/// rows[i][j] = 100 i + j.
void number(vec<float> (&rows)[n]) {
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) rows[i][j] = static_cast<float>(100 * i + j);
}

TEST(Simd, TransposeExchangesRowsAndLanes) {
  vec<float> rows[n];
  number(rows);
  transpose<float>(rows);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) EXPECT_EQ(rows[i][j], static_cast<float>(100 * j + i)) << i << ", " << j;
}

TEST(Simd, FoldRowsGivesALaneARow) {
  vec<float> rows[n];
  number(rows);
  const vec<float> sums = fold_rows<float>(rows, [](auto a, auto b) { return a + b; });
  const vec<float> most = fold_rows<float>(rows, [](auto a, auto b) { return larger(a, b); });
  for (int i = 0; i < n; ++i) {
    EXPECT_EQ(sums[i], static_cast<float>(n * (100 * i) + n * (n - 1) / 2)) << i;
    EXPECT_EQ(most[i], static_cast<float>(100 * i + n - 1)) << i;
  }
}

TEST(Simd, LargerGivesTheSecondWhereEitherIsNotANumber) {
  const vec<float> nan = broadcast<float>(__builtin_nanf("")), one = broadcast<float>(1);
  EXPECT_EQ(larger(nan, one)[0], 1.0f);
  EXPECT_NE(larger(one, nan)[0], larger(one, nan)[0]);
}

}  // namespace
}  // namespace tile
