#include "tile/kernels/simt_split.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tile/exec/emulator.h"
#include "tile/testing/teams.h"

namespace tile::simt {
namespace {

enum class How { fma, elements, rows };

/// [batch, m, k] · [batch, n, k]ᵀ of small integers, in parts; then the parts.
template <class T, class Sum, How how, class Tiles, bool adds>
struct Kernel {
  Extents e;
  SplitSum split;
  std::vector<T>*left, *right;
  std::vector<Sum>*partial, *result;

  template <class Exec>
  void operator()(Exec& ex) const {
    const auto a = ex.global(const_cast<const T*>(left->data()), static_cast<i64>(left->size())),
               b = ex.global(const_cast<const T*>(right->data()), static_cast<i64>(right->size()));
    const auto parts = ex.global(partial->data(), static_cast<i64>(partial->size()));
    const auto out = ex.global(result->data(), static_cast<i64>(result->size()));
    if constexpr (adds) {
      add_parts<Sum>(ex, e, split, parts, [&](i64 batch, i64 m, i64 n, Sum sum) { out[(batch * e.m + m) * e.n + n] = sum; });
    } else if constexpr (how == How::rows) {
      const auto x = rows([&](i64 batch, i64 m) { return a + (batch * e.m + m) * e.k; });
      const auto y = rows([&](i64 batch, i64 n) { return b + (batch * e.n + n) * e.k; });
      Tiles::run(ex, split.of(e), part_of(split, x), part_of(split, y), store_parts(e, parts));
    } else if constexpr (how == How::elements) {
      const auto x = elements<true>([&](i64 batch, i64 m, i64 k) -> T { return a[(batch * e.m + m) * e.k + k]; });
      const auto y = elements<true>([&](i64 batch, i64 n, i64 k) -> T { return b[(batch * e.n + n) * e.k + k]; });
      Tiles::run(ex, split.of(e), part_of(split, x), part_of(split, y), store_parts(e, parts));
    } else {
      const auto x = [&](i64 batch, i64 m, i64 k) -> Sum { return load_as<Sum>(a[(batch * e.m + m) * e.k + k]); };
      const auto y = [&](i64 batch, i64 n, i64 k) -> Sum { return load_as<Sum>(b[(batch * e.n + n) * e.k + k]); };
      Tiles::template run<true, true>(ex, split.of(e), part_of(split, x), part_of(split, y), store_parts(e, parts));
    }
  }
};

template <class T, class Sum, How how, int warp = 32>
void check(const Extents& e, i64 parts, i64 unit) {
  using Tiles = std::conditional_t<how == How::fma, FmaTiles<Sum>, std::conditional_t<warp == 32, MmaTiles<T>, MfmaTiles<T>>>;
  constexpr int side = how == How::fma ? 64 : 128;
  std::mt19937 random(3);  // NOLINT: the same every time
  std::vector<T> left, right;
  for (i64 i = 0; i < e.batch * e.m * e.k; ++i) left.push_back(store_as<T>(static_cast<float>(static_cast<int>(random() % 9) - 4)));
  for (i64 i = 0; i < e.batch * e.n * e.k; ++i) right.push_back(store_as<T>(static_cast<float>(static_cast<int>(random() % 9) - 4)));
  std::vector<Sum> expected, result(static_cast<size_t>(e.batch * e.m * e.n), Sum{-77}), partial(result.size() * static_cast<size_t>(parts), Sum{-77});
  for (i64 b = 0; b < e.batch; ++b)
    for (i64 m = 0; m < e.m; ++m)
      for (i64 n = 0; n < e.n; ++n) {
        Sum sum{};
        for (i64 k = 0; k < e.k; ++k)
          sum += load_as<Sum>(left[static_cast<size_t>((b * e.m + m) * e.k + k)]) * load_as<Sum>(right[static_cast<size_t>((b * e.n + n) * e.k + k)]);
        expected.push_back(sum);
      }
  const SplitSum split{parts, (e.k + parts * unit - 1) / (parts * unit) * unit, e.k};
  const i64 blocks = e.batch * parts * ((e.m + side - 1) / side) * ((e.n + side - 1) / side);
  testing::TestTeam team;
  launch_emulated<warp>(Kernel<T, Sum, how, Tiles, false>{e, split, &left, &right, &partial, &result}, Launch{blocks, Tiles::threads, Tiles::shared_bytes},
                        team.team(), 1);
  launch_emulated<warp>(Kernel<T, Sum, how, Tiles, true>{e, split, &left, &right, &partial, &result}, Launch{3, 64, 0}, team.team(), 1);
  ASSERT_EQ(result, expected) << e.batch << " x " << e.m << " x " << e.n << " x " << e.k << " in " << parts;
}

TEST(SimtSplit, PartsAddUpToTheProduct) {
  check<float, float, How::fma>({1, 9, 17, 300}, 4, 1);
  check<float, float, How::fma, 64>({3, 70, 8, 101}, 7, 1);
  check<int8_t, int32_t, How::fma>({2, 8, 8, 65}, 5, 1);
  check<float16, float, How::elements>({1, 17, 19, 333}, 3, 1);
  check<float16, float, How::elements, 64>({2, 17, 19, 100}, 6, 1);
  check<float16, float, How::rows>({1, 16, 130, 256}, 4, 8);
  check<int8_t, int32_t, How::rows, 64>({2, 20, 16, 192}, 3, 16);
}

TEST(SimtSplit, PartsBehindTheEndAreZero) {
  check<float, float, How::fma>({1, 8, 8, 5}, 4, 4);
  check<float16, float, How::elements>({1, 16, 16, 17}, 8, 16);
}

}  // namespace
}  // namespace tile::simt
