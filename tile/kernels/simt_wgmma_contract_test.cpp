#include "tile/kernels/simt_wgmma_contract.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tile/cast.h"
#include "tile/exec/emulator.h"
#include "tile/testing/teams.h"

namespace tile::simt {
namespace {

struct Shape {
  i64 batch, m, n, k;
  bool shared_right = false;  ///< all entries of the batch multiply by the same
};

/// Factors of small integers, so that every sum is exact, with rows further apart than they are long, and their product in float64.
template <class T, class Tiles, Along along_left, Along along_right>
struct Problem {
  using Sum = typename Tiles::Sum;
  Shape shape;
  std::vector<T> left, right;
  std::vector<double> expected, result;
  FactorPlace<T> left_place, right_place;

  explicit Problem(const Shape& s) : shape(s) {
    std::mt19937 random(3);  // NOLINT: the same every time
    const auto place = [&](std::vector<T>& data, Along along, i64 batch, i64 rows) {
      constexpr i64 piece = 16 / sizeof(T);
      const i64 length = along == Along::k ? s.k : rows, lines = along == Along::k ? rows : s.k;
      const i64 stride = (length + piece - 1) / piece * piece + piece, count = batch * lines * stride;
      data.resize(static_cast<size_t>(count) + piece);
      T* const begin = data.data() + (16 - reinterpret_cast<uintptr_t>(data.data()) % 16) % 16 / sizeof(T);
      for (i64 i = 0; i < count; ++i)
        begin[i] = i % stride < length ? store_as<T>(static_cast<float>(static_cast<int>(random() % 9)) - (std::is_unsigned_v<T> ? 0.0f : 4.0f)) : T{0x7f};
      return FactorPlace<T>{begin, count, batch, lines * stride, rows, s.k, stride};
    };
    left_place = place(left, along_left, s.batch, s.m);
    right_place = place(right, along_right, s.shared_right ? 1 : s.batch, s.n);
    const auto at = [](const FactorPlace<T>& p, Along along, i64 batch, i64 row, i64 k) {
      return load_as<double>(p.data[(p.batch == 1 ? 0 : batch) * p.batch_stride + (along == Along::k ? row * p.stride + k : k * p.stride + row)]);
    };
    for (i64 b = 0; b < s.batch; ++b)
      for (i64 m = 0; m < s.m; ++m)
        for (i64 n = 0; n < s.n; ++n) {
          double sum = 0;
          for (i64 k = 0; k < s.k; ++k) sum += at(left_place, along_left, b, m, k) * at(right_place, along_right, b, n, k);
          expected.push_back(sum);
        }
  }
  Extents extents() const { return {shape.batch, shape.m, shape.n, shape.k}; }
};

template <class Problem, class Tiles>
struct Kernel {
  Problem* p;
  TensorMap left, right;

  template <class Exec>
  void operator()(Exec& ex) const {
    const Shape& s = p->shape;
    const auto out = ex.global(p->result.data(), s.batch * s.m * s.n);
    Tiles::run(ex, p->extents(), Boxes{&left, 1}, Boxes{&right, s.shared_right ? 0 : 1}, [&](i64 batch, i64 m, i64 n, auto sum) {
      double& to = out[(batch * s.m + m) * s.n + n];
      if (to != -77) throw EmulationError("stores a result twice");
      to = sum;
    });
  }
};

template <int columns, int rows = 128, int ring = 4>
struct Tiling : WgmmaTiling {
  static constexpr int m = rows, n = columns, stages = ring;
};

/// With as many blocks, in twenty orders.
template <class T, int columns, Along along_left = Along::k, Along along_right = Along::k, class Cut = Tiling<columns>>
void check(const Shape& shape, i64 blocks = 3) {
  using Tiles = WgmmaTiles<T, T, Cut, along_left, along_right>;
  Problem<T, Tiles, along_left, along_right> problem(shape);
  testing::TestTeam team;
  const Kernel<decltype(problem), Tiles> kernel{&problem, Tiles::left_map(problem.left_place), Tiles::right_map(problem.right_place)};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    problem.result.assign(problem.expected.size(), -77);
    launch_emulated(kernel, Launch{std::min(blocks, Tiles::Order::blocks(problem.extents())), Tiles::threads, Tiles::shared_bytes}, team.team(), seed);
    ASSERT_EQ(problem.result, problem.expected) << shape.batch << " x " << shape.m << " x " << shape.n << " x " << shape.k << ", seed " << seed;
  }
}

TEST(WgmmaContract, MultipliesOneTile) {
  check<float16, 128>({1, 128, 128, 64});
  check<bfloat16, 256>({1, 128, 256, 64});
  check<int8_t, 128>({1, 128, 128, 128});
}

TEST(WgmmaContract, MultipliesWhatFillsNoTile) {
  check<float16, 128>({1, 16, 16, 16});
  check<float16, 128>({1, 130, 17, 72});
  check<uint8_t, 128>({1, 65, 129, 144});
  check<bfloat16, 256>({1, 40, 300, 40});
}

TEST(WgmmaContract, GoesRoundTheRingOfStages) {
  check<float16, 128>({1, 24, 136, 64 * 9 + 8});
  check<int8_t, 256>({1, 24, 24, 128 * 5 + 16});
}

TEST(WgmmaContract, OneWarpgroupAndFewStagesDo) {
  check<float16, 64, Along::k, Along::k, Tiling<64, 64, 2>>({1, 70, 70, 64 * 5});
  check<bfloat16, 256, Along::rows, Along::rows, Tiling<256, 64, 3>>({1, 72, 264, 200});
}

TEST(WgmmaContract, MultipliesBatches) {
  check<float16, 128>({3, 20, 24, 80});
  check<float16, 128>({3, 20, 24, 80, true});
}

TEST(WgmmaContract, MultipliesFactorsThatLieAlongTheirRows) {
  check<float16, 128, Along::k, Along::rows>({2, 72, 136, 80});
  check<bfloat16, 128, Along::rows, Along::k>({2, 136, 40, 72});
  check<float16, 256, Along::rows, Along::rows>({1, 72, 200, 130, true});
}

TEST(WgmmaContract, BlocksComputeOneTileAfterAnother) {
  check<float16, 128>({1, 500, 140, 80}, 1);
  check<float16, 128>({2, 140, 140, 24}, 3);
}

}  // namespace
}  // namespace tile::simt
