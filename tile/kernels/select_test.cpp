#include "tile/kernels/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

const float nan = std::numeric_limits<float>::quiet_NaN();

TEST(Nonzero, GivesCoordinatesByDimension) {
  const std::vector<float> x{1, 0, 0, -0.0f, nan, 3};
  const i64 shape[] = {2, 3};
  std::vector<i64> out(12, -1);
  ASSERT_EQ(nonzero(x.data(), 2, shape, out.data()), 3);
  EXPECT_EQ(std::vector<i64>(out.begin(), out.begin() + 6), (std::vector<i64>{0, 1, 1, 0, 1, 2}));
  const i64 none[] = {0, 3};
  EXPECT_EQ(nonzero(x.data(), 2, none, out.data()), 0);
  EXPECT_EQ(nonzero(x.data(), 0, none, out.data()), 1);
}

TEST(Compress, GivesPositionsOfTheTrueOnes) {
  const bool condition[] = {false, true, true, false, true};
  std::vector<i64> out(5, -1);
  ASSERT_EQ(compress_indices(condition, 5, out.data()), 3);
  EXPECT_EQ(std::vector<i64>(out.begin(), out.begin() + 3), (std::vector<i64>{1, 2, 4}));
}

TEST(TopK, EqualsAStableSort) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const i64 outer = random() % 4, length = 1 + random() % 40, inner = 1 + random() % 3, k = random() % static_cast<unsigned long>(length + 1);
    std::vector<float> x(static_cast<size_t>(outer * length * inner));
    for (float& v : x) {
      const auto r = random() % 12;
      v = r == 11 ? nan : r == 10 ? std::numeric_limits<float>::infinity() : static_cast<float>(r) - 4;
    }
    const bool largest = round % 2 == 0;
    std::vector<float> values(static_cast<size_t>(outer * k * inner));
    std::vector<i64> positions(values.size());
    testing::TestTeam team(1 + round % 3);
    top_k(x.data(), outer, length, inner, k, {largest}, values.data(), positions.data(), team.team());
    for (i64 o = 0; o < outer; ++o) {
      for (i64 j = 0; j < inner; ++j) {
        auto at = [&](i64 i) { return x[static_cast<size_t>((o * length + i) * inner + j)]; };
        std::vector<i64> order(static_cast<size_t>(length));
        std::iota(order.begin(), order.end(), 0);
        auto key = [&](i64 i) {  // NaN above infinity
          return std::isnan(at(i)) ? std::pair{1, 0.0f} : std::pair{0, at(i)};
        };
        std::stable_sort(order.begin(), order.end(), [&](i64 a, i64 b) { return largest ? key(b) < key(a) : key(a) < key(b); });
        for (i64 i = 0; i < k; ++i) {
          const auto out = static_cast<size_t>((o * k + i) * inner + j);
          ASSERT_EQ(positions[out], order[static_cast<size_t>(i)]);
          ASSERT_TRUE(values[out] == at(positions[out]) || std::isnan(at(positions[out])));
        }
      }
    }
  }
}

TEST(Unique, GroupsSlicesSortedOrByFirstOccurrence) {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    const i64 outer = 1 + random() % 2, length = random() % 20, inner = 1 + random() % 2;
    std::vector<int32_t> x(static_cast<size_t>(outer * length * inner));
    for (int32_t& v : x) v = static_cast<int32_t>(random() % 3) - 1;
    auto slice = [&](const std::vector<int32_t>& from, i64 extent, i64 i) {
      std::vector<int32_t> s;
      for (i64 o = 0; o < outer; ++o) {
        for (i64 j = 0; j < inner; ++j) s.push_back(from[static_cast<size_t>((o * extent + i) * inner + j)]);
      }
      return s;
    };
    std::map<std::vector<int32_t>, std::vector<i64>> groups;
    for (i64 i = 0; i < length; ++i) groups[slice(x, length, i)].push_back(i);
    std::vector<std::pair<std::vector<int32_t>, std::vector<i64>>> expected(groups.begin(), groups.end());
    const bool sorted = round % 2 == 0;
    if (!sorted) std::sort(expected.begin(), expected.end(), [](auto& a, auto& b) { return a.second[0] < b.second[0]; });
    std::vector<int32_t> y(x.size());
    std::vector<i64> first(static_cast<size_t>(length)), inverse(first), counts(first);
    testing::TestTeam team;
    const i64 count = unique(x.data(), outer, length, inner, {sorted}, y.data(), first.data(), inverse.data(), counts.data(), team.team());
    ASSERT_EQ(count, static_cast<i64>(expected.size()));
    for (i64 g = 0; g < count; ++g) {
      const auto& [values, members] = expected[static_cast<size_t>(g)];
      EXPECT_EQ(slice(y, count, g), values);
      EXPECT_EQ(first[static_cast<size_t>(g)], members[0]);
      EXPECT_EQ(counts[static_cast<size_t>(g)], static_cast<i64>(members.size()));
      for (i64 m : members) EXPECT_EQ(inverse[static_cast<size_t>(m)], g);
    }
  }
}

TEST(Unique, NaNIsOneValueAndTheGreatest) {
  const std::vector<float> x{nan, 1, nan, -1};
  std::vector<float> y(4);
  testing::TestTeam team;
  ASSERT_EQ(unique(x.data(), 1, 4, 1, {}, y.data(), nullptr, nullptr, nullptr, team.team()), 3);
  EXPECT_EQ(y[0], -1);
  EXPECT_EQ(y[1], 1);
  EXPECT_TRUE(std::isnan(y[2]));
}

}  // namespace
}  // namespace tile
