#include "tile/exec/simd.h"

#include <gtest/gtest.h>

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
  narrow_row(from.data(), static_cast<i64>(from.size()), to.data());
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

}  // namespace
}  // namespace tile
