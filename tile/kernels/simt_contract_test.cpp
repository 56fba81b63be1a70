#include "tile/kernels/simt_contract.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <set>
#include <vector>

#include "tile/exec/emulator.h"
#include "tile/kernels/simt_mma_contract.h"
#include "tile/testing/teams.h"

namespace tile::simt {
namespace {

struct Shape {
  i64 batch, m, n, k;
};

/// Factors [batch, m, k] and [batch, n, k] of small integers, so that every sum is exact, and their product.
template <class T, class Sum>
struct Problem {
  Shape shape;
  std::vector<T> left, right;
  std::vector<Sum> expected, result;

  explicit Problem(const Shape& s) : shape(s) {
    std::mt19937 random(3);  // NOLINT: the same every time
    const auto fill = [&](std::vector<T>& to, i64 count) {
      for (i64 i = 0; i < count; ++i) to.push_back(store_as<T>(static_cast<float>(static_cast<int>(random() % 9)) - (std::is_unsigned_v<T> ? 0.0f : 4.0f)));
    };
    fill(left, s.batch * s.m * s.k);
    fill(right, s.batch * s.n * s.k);
    for (i64 b = 0; b < s.batch; ++b)
      for (i64 m = 0; m < s.m; ++m)
        for (i64 n = 0; n < s.n; ++n) {
          Sum sum{};
          for (i64 k = 0; k < s.k; ++k)
            sum += load_as<Sum>(left[static_cast<size_t>((b * s.m + m) * s.k + k)]) * load_as<Sum>(right[static_cast<size_t>((b * s.n + n) * s.k + k)]);
          expected.push_back(sum);
        }
    result.assign(expected.size(), Sum{-77});
  }
  Extents extents() const { return {shape.batch, shape.m, shape.n, shape.k}; }
};

enum class How { fma, elements, rows };

template <class T, class Sum, How how, class Tiles>
struct Kernel {
  Problem<T, Sum>* p;

  template <class Exec>
  void operator()(Exec& ex) const {
    const Shape s = p->shape;
    const auto a = ex.global(const_cast<const T*>(p->left.data()), s.batch * s.m * s.k),
               b = ex.global(const_cast<const T*>(p->right.data()), s.batch * s.n * s.k);
    const auto out = ex.global(p->result.data(), s.batch * s.m * s.n);
    const auto store = [&](i64 batch, i64 m, i64 n, Sum sum) { out[(batch * s.m + m) * s.n + n] = sum; };
    if constexpr (how == How::fma) {
      Tiles::template run<true, false>(
          ex, p->extents(), [&](i64 batch, i64 m, i64 k) { return load_as<Sum>(a[(batch * s.m + m) * s.k + k]); },
          [&](i64 batch, i64 n, i64 k) { return load_as<Sum>(b[(batch * s.n + n) * s.k + k]); }, store);
    } else if constexpr (how == How::elements) {
      Tiles::run(ex, p->extents(), elements<true>([&](i64 batch, i64 m, i64 k) { return a[(batch * s.m + m) * s.k + k]; }),
                 elements<false>([&](i64 batch, i64 n, i64 k) { return b[(batch * s.n + n) * s.k + k]; }), store);
    } else {
      Tiles::run(ex, p->extents(), rows([&](i64 batch, i64 m) { return a + (batch * s.m + m) * s.k; }),
                 rows([&](i64 batch, i64 n) { return b + (batch * s.n + n) * s.k; }), store);
    }
  }
};

template <class T, class Sum, How how, int warp, class Tiles>
void check_tiles(const Shape& shape) {
  Problem<T, Sum> problem(shape);
  testing::TestTeam team;
  for (const uint64_t seed : {1, 2, 3}) {
    std::fill(problem.result.begin(), problem.result.end(), Sum{-77});
    launch_emulated<warp>(Kernel<T, Sum, how, Tiles>{&problem}, Launch{Tiles::blocks(problem.extents()), Tiles::threads, Tiles::shared_bytes}, team.team(),
                          seed);
    ASSERT_EQ(problem.result, problem.expected) << shape.batch << " x " << shape.m << " x " << shape.n << " x " << shape.k << ", seed " << seed;
  }
}

template <class T, class Sum, How how, int warp = 32>
void check(const Shape& shape) {
  check_tiles<T, Sum, how, warp, std::conditional_t<how == How::fma, FmaTiles<Sum>, std::conditional_t<warp == 32, MmaTiles<T>, MfmaTiles<T>>>>(shape);
}

const Shape odd_shapes[] = {{1, 1, 1, 1}, {1, 3, 5, 7}, {2, 64, 65, 16}, {1, 130, 17, 33}, {1, 8, 8, 0}, {3, 16, 8, 100}};

TEST(SimtContract, MultipliesByFma) {
  for (const Shape& shape : odd_shapes) {
    check<float, float, How::fma>(shape);
    check<float, float, How::fma, 64>(shape);
    check<int8_t, int32_t, How::fma>(shape);
  }
}

TEST(SimtContract, MultipliesByMatrixInstructions) {
  for (const Shape& shape : odd_shapes) {
    check<float16, float, How::elements>(shape);
    check<float16, float, How::elements, 64>(shape);
    check<bfloat16, float, How::elements>(shape);
    check<bfloat16, float, How::elements, 64>(shape);
    check<int8_t, int32_t, How::elements>(shape);
    check<int8_t, int32_t, How::elements, 64>(shape);
  }
}

template <int m_, int n_, int each_m_, int each_n_, int depth_, int stages_, int group_>
struct Fma {
  static constexpr int m = m_, n = n_, each_m = each_m_, each_n = each_n_, depth = depth_, stages = stages_, group = group_;
};
template <int m_, int n_, int warps_m_, int warps_n_, int depth_, int stages_, int group_>
struct Matrix {
  static constexpr int m = m_, n = n_, warps_m = warps_m_, warps_n = warps_n_, depth = depth_, stages = stages_, group = group_;
};

TEST(SimtContract, CutsProductsForMultiplyAddsInManyWays) {
  for (const Shape& shape : odd_shapes) {
    check_tiles<float, float, How::fma, 32, FmaTiles<float, Fma<32, 128, 2, 8, 8, 2, 1>>>(shape);
    check_tiles<float, float, How::fma, 32, FmaTiles<float, Fma<16, 16, 4, 2, 32, 2, 3>>>(shape);
    check_tiles<int8_t, int32_t, How::fma, 64, FmaTiles<int32_t, Fma<128, 32, 8, 4, 10, 1, 2>>>(shape);
  }
}

TEST(SimtContract, CutsProductsForMatrixInstructionsInManyWays) {
  for (const Shape& shape : {Shape{1, 1, 1, 1}, {2, 64, 65, 16}, {1, 130, 17, 33}, {1, 8, 8, 0}, {1, 100, 150, 70}}) {
    check_tiles<float16, float, How::elements, 32, MmaTiles<float16, float16, Matrix<32, 64, 1, 2, 64, 4, 2>>>(shape);
    check_tiles<int8_t, int32_t, How::elements, 32, MmaTiles<int8_t, int8_t, Matrix<64, 32, 4, 1, 128, 2, 3>>>(shape);
    check_tiles<bfloat16, float, How::elements, 64, MfmaTiles<bfloat16, Matrix<64, 32, 2, 1, 16, 2, 8>>>(shape);
    check_tiles<int8_t, int32_t, How::elements, 64, MfmaTiles<int8_t, Matrix<32, 64, 1, 4, 64, 5, 1>>>(shape);
  }
}

TEST(SimtContract, GivesEveryTileToOneBlockGroupByGroup) {
  using Order = TileOrder<10, 20, 3>;
  const Extents extents{.batch = 2, .m = 65, .n = 81, .k = 1};  // 7 × 5 tiles
  ASSERT_EQ(Order::blocks(extents), 70);
  std::set<std::array<i64, 3>> places;
  std::vector<std::array<i64, 3>> order;
  for (i64 block = 0; block < 70; ++block) {
    const Order::Place place = Order::place(extents, block);
    order.push_back({place.batch, place.m, place.n});
    places.insert(order.back());
    EXPECT_TRUE(place.m % 10 == 0 && place.m < 65 && place.n % 20 == 0 && place.n < 81 && place.batch < 2);
  }
  EXPECT_EQ(places.size(), 70U);
  const std::vector<std::array<i64, 3>> first = {{0, 0, 0}, {0, 10, 0}, {0, 20, 0}, {0, 0, 20}}, last_group = {{0, 60, 0}, {0, 60, 20}};
  EXPECT_TRUE(std::equal(first.begin(), first.end(), order.begin()));
  EXPECT_TRUE(std::equal(last_group.begin(), last_group.end(), order.begin() + 30)) << "the last group has one row";
}

// NVIDIA's shared memory has 32 banks of a word each; a matrix load reads eight rows of four words at once.
template <class Tiles>
void expect_all_banks() {
  std::set<int> places;
  for (int row = 0; row < Tiles::tile_m; row += 8)
    for (int word = 0; word < Tiles::row_words; word += 4) {
      std::set<int> banks;
      for (int i = 0; i < 8 * 4; ++i) {
        const int place = Tiles::place(row + i / 4, word + i % 4);
        banks.insert(place % 32);
        places.insert(place);
      }
      EXPECT_EQ(banks.size(), 32u) << row << ", " << word;
    }
  EXPECT_EQ(places.size(), static_cast<size_t>(Tiles::tile_m * Tiles::row_words));
  EXPECT_EQ(*places.rbegin(), Tiles::tile_m * Tiles::row_words - 1);
}

TEST(SimtContract, SpreadsEveryMatrixLoadOverAllBanks) {
  expect_all_banks<MmaTiles<float16, float16, Matrix<128, 128, 2, 4, 16, 3, 1>>>();
  expect_all_banks<MmaTiles<float16, float16, Matrix<128, 128, 2, 4, 32, 3, 1>>>();
  expect_all_banks<MmaTiles<float16, float16, Matrix<128, 128, 2, 4, 64, 3, 1>>>();
}

TEST(SimtContract, CopiesWholeRowsAsynchronously) {
  for (const Shape& shape : {Shape{1, 1, 1, 16}, {2, 130, 5, 48}, {1, 128, 128, 96}, {1, 16, 136, 16}}) {
    check<float16, float, How::rows>(shape);
    check<float16, float, How::rows, 64>(shape);
    check<int8_t, int32_t, How::rows>(shape);
    check<int8_t, int32_t, How::rows, 64>(shape);
  }
}

}  // namespace
}  // namespace tile::simt
