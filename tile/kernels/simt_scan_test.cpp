#include "tile/kernels/simt_scan.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tile/cast.h"
#include "tile/exec/emulator.h"
#include "tile/testing/teams.h"

namespace tile::simt {
namespace {

template <class V>
struct Kernel {
  std::vector<V>* values;
  bool exclusive;

  template <class Exec>
  void operator()(Exec& ex) const {
    const auto length = static_cast<i64>(values->size());
    const auto at = ex.global(values->data(), length);
    BlockScan<V>::run(
        ex, length, V{0}, exclusive, [&](i64 i) { return at[i]; }, [&](i64 i, V sum) { at[i] = sum; }, [](V a, V b) { return wrapping_add(a, b); });
  }
};

/// In place, of small integers, whose sums are exact: what a loop gives, in twenty orders.
template <class V, int warp>
void check(i64 length, bool exclusive) {
  std::mt19937 random(5);  // NOLINT: the same every time
  std::vector<V> values, expected;
  V running{0};
  for (i64 i = 0; i < length; ++i) {
    values.push_back(static_cast<V>(static_cast<int>(random() % 17) - 8));
    const V next = wrapping_add(running, values.back());
    expected.push_back(exclusive ? running : next);
    running = next;
  }
  testing::TestTeam team;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<V> result = values;
    launch_emulated<warp>(Kernel<V>{&result, exclusive}, Launch{1, BlockScan<V>::threads, BlockScan<V>::shared_bytes}, team.team(), seed);
    ASSERT_EQ(result, expected) << length << " values, seed " << seed;
  }
}

TEST(SimtScan, ABlockSumsWhatComesBefore) {
  for (const i64 length : {0, 1, 31, 33, 255, 256, 257, 1000}) {
    check<float, 32>(length, false);
    check<float, 32>(length, true);
    check<double, 64>(length, length % 2 == 0);
    check<int64_t, 32>(length, length % 2 == 1);
    check<int8_t, 64>(length, false);
  }
}

}  // namespace
}  // namespace tile::simt
