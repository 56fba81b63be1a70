#include "tile/kernels/simt_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tile/exec/emulator.h"
#include "tile/testing/teams.h"

namespace tile::simt {
namespace {

struct Ranks {
  const std::vector<float>* values;
  bool greatest_first;
  std::vector<i64>* ranks;

  template <class Exec>
  void operator()(Exec& ex) const {
    const auto length = static_cast<i64>(values->size());
    const auto x = ex.global(values->data(), length);
    const auto out = ex.global(ranks->data(), length);
    for (i64 i = ex.block() * ex.threads() + ex.thread(); i < length; i += ex.blocks() * ex.threads())
      out[i] = rank_of(i, length, greatest_first, [&](i64 other) { return x[other]; });
  }
};

TEST(SimtSelect, RanksAreAStableSorts) {
  std::mt19937 random(5);  // NOLINT: the same every time
  std::vector<float> values(300);
  for (float& value : values) value = static_cast<float>(random() % 50);
  values[7] = values[200] = std::numeric_limits<float>::quiet_NaN();
  values[9] = -std::numeric_limits<float>::infinity();
  // Not a number is the greatest.
  const auto key = [&](i64 i) { return std::isnan(values[static_cast<size_t>(i)]) ? 1000.0f : values[static_cast<size_t>(i)]; };
  for (const bool greatest_first : {true, false}) {
    std::vector<i64> order(values.size()), expected(values.size()), ranks(values.size());
    std::iota(order.begin(), order.end(), i64{0});
    std::stable_sort(order.begin(), order.end(), [&](i64 a, i64 b) { return greatest_first ? key(a) > key(b) : key(a) < key(b); });
    for (size_t i = 0; i < order.size(); ++i) expected[static_cast<size_t>(order[i])] = static_cast<i64>(i);
    testing::TestTeam team;
    launch_emulated(Ranks{&values, greatest_first, &ranks}, Launch{3, 64, 0}, team.team(), 1);
    EXPECT_EQ(ranks, expected);
  }
}

struct Evens {
  const std::vector<int>* values;
  std::vector<i64>*positions, *count;

  template <class Exec>
  void operator()(Exec& ex) const {
    const auto length = static_cast<i64>(values->size());
    const auto x = ex.global(values->data(), length);
    const auto out = ex.global(positions->data(), static_cast<i64>(positions->size()));
    const i64 all = number_wanted(
        ex, length, [&](i64 i) { return x[i] % 2 == 0; }, [&](i64 number, i64 i) { out[number] = i; });
    if (ex.thread() == 0) (*count)[0] = all;
  }
};

TEST(SimtSelect, PositionsKeepTheirOrder) {
  std::mt19937 random(5);  // NOLINT: the same every time
  for (const int length : {0, 1, 255, 256, 257, 1000}) {
    std::vector<int> values(static_cast<size_t>(length));
    std::vector<i64> expected, count(1, -1);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<int>(random() % 100);
      if (values[i] % 2 == 0) expected.push_back(static_cast<i64>(i));
    }
    testing::TestTeam team;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      std::vector<i64> positions(expected.size(), -1);
      launch_emulated<64>(Evens{&values, &positions, &count}, Launch{1, BlockScan<i64>::threads, BlockScan<i64>::shared_bytes}, team.team(), seed);
      ASSERT_EQ(positions, expected) << length << " values, seed " << seed;
      ASSERT_EQ(count[0], static_cast<i64>(expected.size()));
    }
  }
}

}  // namespace
}  // namespace tile::simt
