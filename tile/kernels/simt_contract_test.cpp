#include "tile/kernels/simt_contract.h"

#include <gtest/gtest.h>

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
  i64 tiles(int side) const { return shape.batch * ((shape.m + side - 1) / side) * ((shape.n + side - 1) / side); }
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
      FmaTiles<Sum>::template run<true, false>(
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

template <class T, class Sum, How how, int warp = 32>
void check(const Shape& shape) {
  using Tiles = std::conditional_t<how == How::fma, FmaTiles<Sum>, std::conditional_t<warp == 32, MmaTiles<T>, MfmaTiles<T>>>;
  Problem<T, Sum> problem(shape);
  testing::TestTeam team;
  for (const uint64_t seed : {1, 2, 3}) {
    std::fill(problem.result.begin(), problem.result.end(), Sum{-77});
    launch_emulated<warp>(Kernel<T, Sum, how, Tiles>{&problem}, Launch{problem.tiles(Tiles::tile), Tiles::threads, Tiles::shared_bytes}, team.team(), seed);
    ASSERT_EQ(problem.result, problem.expected) << shape.batch << " x " << shape.m << " x " << shape.n << " x " << shape.k << ", seed " << seed;
  }
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

// NVIDIA's shared memory has 32 banks of a word each; a matrix load reads eight rows of four words at once.
TEST(SimtContract, SpreadsEveryMatrixLoadOverAllBanks) {
  using Tiles = MmaTiles<float16>;
  std::set<int> places;
  for (int row = 0; row < Tiles::tile; row += 8)
    for (int word = 0; word < Tiles::row_words; word += 4) {
      std::set<int> banks;
      for (int i = 0; i < 8 * 4; ++i) {
        const int place = Tiles::place(row + i / 4, word + i % 4);
        banks.insert(place % 32);
        places.insert(place);
      }
      EXPECT_EQ(banks.size(), 32u) << row << ", " << word;
    }
  EXPECT_EQ(places.size(), static_cast<size_t>(Tiles::tile * Tiles::row_words));
  EXPECT_EQ(*places.rbegin(), Tiles::tile * Tiles::row_words - 1);
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
