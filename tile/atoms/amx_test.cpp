#include "tile/atoms/amx.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace tile {
namespace {

TileShapes three_tiles(int rows, int steps, int columns) {
  TileShapes shapes;
  shapes.rows[0] = static_cast<uint8_t>(rows), shapes.row_bytes[0] = static_cast<uint16_t>(columns * 4);
  shapes.rows[1] = static_cast<uint8_t>(rows), shapes.row_bytes[1] = static_cast<uint16_t>(steps * 4);
  shapes.rows[2] = static_cast<uint8_t>(steps), shapes.row_bytes[2] = static_cast<uint16_t>(columns * 4);
  return shapes;
}

template <TileProducts kind, class L, class W>
void check_bytes() {
  constexpr int rows = 7, steps = 5, columns = 11;
  std::mt19937 random(static_cast<unsigned>(kind));
  L a[rows][steps * 4];
  W b[steps][columns * 4];
  int32_t sums[rows][columns], out[rows][columns];
  for (auto& row : a)
    for (L& x : row) x = static_cast<L>(random());
  for (auto& row : b)
    for (W& x : row) x = static_cast<W>(random());
  for (auto& row : sums)
    for (int32_t& x : row) x = static_cast<int32_t>(random() % 1000);
  EmulatedTiles::configure(three_tiles(rows, steps, columns));
  EmulatedTiles::load<0>(sums, sizeof sums[0]);
  EmulatedTiles::load<1>(a, sizeof a[0]);
  EmulatedTiles::load<2>(b, sizeof b[0]);
  EmulatedTiles::add_products<kind, 0, 1, 2>();
  EmulatedTiles::store<0>(out, sizeof out[0]);
  EmulatedTiles::release();
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) {
      int64_t expected = sums[i][j];
      for (int k = 0; k < steps * 4; ++k) expected += int64_t{a[i][k]} * int64_t{b[k / 4][4 * j + k % 4]};
      ASSERT_EQ(out[i][j], expected) << i << " " << j;
    }
}

TEST(EmulatedTiles, MultiplyBytesOfEitherSign) {
  check_bytes<TileProducts::u8s8, uint8_t, int8_t>();
  check_bytes<TileProducts::s8s8, int8_t, int8_t>();
  check_bytes<TileProducts::s8u8, int8_t, uint8_t>();
  check_bytes<TileProducts::u8u8, uint8_t, uint8_t>();
}

/// Sum + Σ a[k] · b[k] of one row and column.
float bfloat_product(float sum, std::vector<float> a, std::vector<float> b) {
  std::vector<bfloat16> left, right;
  for (size_t k = 0; k < a.size(); ++k) left.push_back(store_as<bfloat16>(a[k])), right.push_back(store_as<bfloat16>(b[k]));
  EmulatedTiles::configure(three_tiles(1, static_cast<int>(a.size() / 2), 1));
  EmulatedTiles::load<0>(&sum, 4);
  EmulatedTiles::load<1>(left.data(), static_cast<i64>(a.size()) * 2);
  EmulatedTiles::load<2>(right.data(), 4);
  EmulatedTiles::add_products<TileProducts::bf16, 0, 1, 2>();
  EmulatedTiles::store<0>(&sum, 4);
  EmulatedTiles::release();
  return sum;
}

// Worked out by hand from the manual: even and odd k have sums that begin at zero, rounded at each product, and join the sum at the end.
TEST(EmulatedTiles, MultiplyBfloatsInTheOrderOfTheManual) {
  EXPECT_EQ(bfloat_product(1, {2, 3}, {5, 7}), 32);
  // One by one, each half of an ulp of 1 would be lost; together they are an ulp.
  EXPECT_EQ(bfloat_product(1, {0x1p-24F, 0x1p-24F}, {1, 1}), 1 + 0x1p-23F);
  EXPECT_EQ(bfloat_product(1, {0x1p-25F, 0, 0x1p-25F, 0, 0x1p-25F, 0, 0x1p-25F, 0}, std::vector<float>(8, 1)), 1 + 0x1p-23F);
  // Within the sum of even k, they are lost one by one.
  EXPECT_EQ(bfloat_product(0, {1, 0, 0x1p-24F, 0, 0x1p-24F, 0}, std::vector<float>(6, 1)), 1);
  // A product is not rounded before it is added.
  EXPECT_EQ(bfloat_product(0, {-1, 0, 1 + 0x1p-7F, 0}, {1, 0, 1 - 0x1p-7F, 0}), -0x1p-14F);
}

TEST(EmulatedTiles, TakeSubnormalsForZeros) {
  EXPECT_EQ(bfloat_product(0, {0x1p-127F, 0}, {0x1p100F, 0}), 0);
  EXPECT_EQ(bfloat_product(0, {0x1p-100F, 0}, {0x1p-30F, 0}), 0);
  EXPECT_EQ(bfloat_product(0x1p-130F, {0, 0}, {0, 0}), 0);
  EXPECT_EQ(bfloat_product(0x1.8p-126F, {-0x1p-126F, 0}, {1, 0}), 0);  // what is left is subnormal
  EXPECT_EQ(bfloat_product(0, {0x1p-126F, 0}, {1, 0}), 0x1p-126F);
}

TEST(EmulatedTiles, KeepInfinitiesAndNans) {
  EXPECT_EQ(bfloat_product(0, {INFINITY, 0}, {2, 0}), INFINITY);
  EXPECT_TRUE(std::isnan(bfloat_product(0, {INFINITY, 0}, {0, 0})));
  EXPECT_EQ(bfloat_product(0, {0x1p127F, 0x1p127F}, {1, 1}), INFINITY);
}

TEST(EmulatedTilesDeathTest, FaultWhereTheMachineWould) {
  const float memory[16] = {};
  EXPECT_DEATH((EmulatedTiles::release(), EmulatedTiles::load<0>(memory, 64)), "without a shape");
  EXPECT_DEATH((EmulatedTiles::configure(three_tiles(2, 3, 4)), EmulatedTiles::zero<3>()), "without a shape");
  TileShapes shapes = three_tiles(2, 3, 4);
  shapes.rows[2] = 4;
  EXPECT_DEATH((EmulatedTiles::configure(shapes), EmulatedTiles::add_products<TileProducts::bf16, 0, 1, 2>()), "shapes are those of a product");
  shapes.rows[0] = 17;
  EXPECT_DEATH(EmulatedTiles::configure(shapes), "16 rows");
}

template <class B>
struct Operands {
  using Atom = Dot<std::conditional_t<std::is_same_v<B, BfloatPair>, float, int32_t>, B>;
  using L = typename Atom::left_type;
  using W = typename Atom::weight_type;
  std::vector<L> a;
  std::vector<B> panel;
  std::vector<W> weights;  ///< [columns, k]

  /// `rows` rows of `runs` runs side by side; bytes of any value, bfloats of small whole numbers.
  Operands(i64 rows, i64 columns, i64 runs, i64 depth, int steps, unsigned seed) {
    std::mt19937 random(seed);
    const auto any = [&]<class T>(T) {
      if constexpr (std::is_same_v<T, bfloat16>) {
        return store_as<bfloat16>(static_cast<float>(static_cast<int>(random() % 17) - 8));
      } else {
        return static_cast<T>(random() % 3 == 0 ? (random() % 2 ? 0x80 : 0xff) : random());
      }
    };
    for (i64 i = 0; i < rows * runs * depth; ++i) a.push_back(any(L{}));
    for (i64 i = 0; i < columns * runs * depth; ++i) weights.push_back(any(W{}));
    panel.resize(static_cast<size_t>(columns * runs * dot_steps(depth, Atom::group)));
    pack_groups(
        panel.data(), columns, runs, depth, static_cast<int>(columns), [&](i64 j, i64 k) { return weights[static_cast<size_t>(j * runs * depth + k)]; }, 16,
        steps);
  }
};

/// One object for blocks of several numbers of rows, each from a start and from zeros.
template <class B, int rows, int vectors, i64 runs, i64 depth, int steps>
void check_blocks(unsigned seed) {
  using P = std::conditional_t<std::is_same_v<B, BfloatPair>, float, int32_t>;
  constexpr i64 columns = 16 * vectors;
  const Operands<B> o(rows, columns, runs, depth, steps, seed);
  std::vector<i64> offsets;
  for (i64 r = 0; r < runs; ++r) offsets.push_back(r * depth);
  std::vector<P> start;
  for (i64 j = 0; j < columns; ++j) start.push_back(static_cast<P>(j * 3 - 7));
  struct Block {
    i64 count;
    bool started;
    std::vector<P> out = std::vector<P>(static_cast<size_t>(rows * columns), P{77});
    i64 given = 0;
  };
  std::vector<Block> all;
  for (const i64 count : {i64{rows}, i64{1}, i64{rows}, i64{rows}, i64{(rows + 1) / 2}})
    for (const bool started : {false, true}) all.push_back({count, started});
  {
    AmxBlocks<P, rows, vectors, runs * depth, B, steps, EmulatedTiles> blocks;
    const auto results = [&](const BlockPlace& place, i64 first, i64 count, const P* sums) {
      Block& block = all.at(static_cast<size_t>(place.batch));
      EXPECT_EQ(first, block.given) << "each row once";
      block.given += count;
      std::copy(sums, sums + count * columns, block.out.data() + first * columns);
    };
    for (size_t i = 0; i < all.size(); ++i) {
      Ahead ahead;
      blocks.multiply({.batch = static_cast<i64>(i)}, all[i].count, runs, depth, o.a.data(), offsets.data(), o.panel.data(), ahead,
                      all[i].started ? start.data() : nullptr, results);
      EXPECT_TRUE(EmulatedTiles::configured());
      if (i > 0) {
        EXPECT_EQ(all[i - 1].given, all[i - 1].count) << "while the next block is computed";
      }
    }
    blocks.finish(results);
    blocks.finish(results);  // nothing is left
  }
  for (const Block& block : all) {
    EXPECT_EQ(block.given, block.count);
    for (i64 i = 0; i < rows; ++i)
      for (i64 j = 0; j < columns; ++j) {
        double expected = block.started ? static_cast<double>(start[static_cast<size_t>(j)]) : 0;
        for (i64 k = 0; k < runs * depth; ++k)
          expected += load_as<double>(o.a[static_cast<size_t>(i * runs * depth + k)]) * load_as<double>(o.weights[static_cast<size_t>(j * runs * depth + k)]);
        if (i >= block.count) expected = 77;  // not computed
        ASSERT_EQ(static_cast<double>(block.out[static_cast<size_t>(i * columns + j)]), expected) << block.count << " rows: " << i << " " << j;
      }
  }
  EXPECT_FALSE(EmulatedTiles::configured());
}

template <class B>
void check_all() {
  check_blocks<B, 32, 2, 1, 128, 16>(1);
  check_blocks<B, 16, 2, 1, 64, 16>(2);
  check_blocks<B, 16, 1, 3, 64, 8>(3);
  check_blocks<B, 7, 2, 2, 70, 16>(4);   // fewer rows than a tile, k between tiles
  check_blocks<B, 21, 1, 1, 33, 16>(5);  // a tile and a piece of one
  check_blocks<B, 1, 1, 9, 3, 1>(6);
  check_blocks<B, 28, 2, 1, 96, 12>(7);
}

TEST(AmxBlocks, ReadPanelsOfBytesAsTheyArePacked) { check_all<ByteQuad>(); }
TEST(AmxBlocks, ReadPanelsOfBfloatsAsTheyArePacked) { check_all<BfloatPair>(); }

}  // namespace
}  // namespace tile
