#pragma once

// Products of floats on the tile registers of AMX, which multiply bfloats: a product of floats is the sum of the six products of their
// parts that matter, 2^-16 and larger beside the first.
//
// The three larger products have sums of their own, and so have the three others, which round 2^8 times less: as many instructions wait for each
// sum. Sums take 1 x 2 or 2 x 1 tiles twice (0 and 1 of the larger products, 2 and 3 of the others); 4 to 6 hold one side's parts, 7 one of the
// other's: nine loads for twelve products.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tile/atoms/bfloat_parts.h"
#include "tile/atoms/row_block.h"
#include "tile/atoms/tile_registers.h"

namespace tile {

/// Rows of floats and their parts: element (i, run r, k) is floats[float_offsets[r] + i · stride + k], its part p
/// parts[p · apart + offsets[r] + i · stride + k].
struct SplitRows {
  static constexpr i64 read_beyond = 32;  ///< elements of parts behind a row's end that may be read: zeros multiply them

  const bfloat16* parts;  ///< null: what parts do not stand for
  i64 apart;
  const float* floats;
  const i64* float_offsets;
};

/// Up to `rows` rows times `vectors` times 16 columns, as AmxBlocks has them, with rows and panels in parts.
template <int rows_, int vectors_, i64 stride_, int steps_ = 16, class Tiles = TileRegisters>
class AmxSplitBlocks {
 public:
  static constexpr int group = 2, side = 16, rows = rows_, vectors = vectors_, columns = vectors_ * side;
  static_assert(rows >= 1 && vectors >= 1 && (rows + side - 1) / side * vectors <= 2, "two tiles of sums at most");
  static_assert(steps_ >= 1 && steps_ <= 16, "a tile has sixteen rows of columns at most");
  using sum_type = float;
  using panel_type = BfloatTriple;
  using left_type = float;
  static constexpr i64 stride = stride_;
  static constexpr int depth_of_tile = steps_ * group;  ///< elements of k

  AmxSplitBlocks() = default;
  AmxSplitBlocks(const AmxSplitBlocks&) = delete;
  AmxSplitBlocks& operator=(const AmxSplitBlocks&) = delete;
  ~AmxSplitBlocks() {
    if (configured_ > 0) Tiles::release();
  }

  void multiply(i64 count, i64 runs, i64 depth, const SplitRows& a, const i64* offsets, const BfloatTriple* b, float* tile, Ahead& ahead) {
    if (a.parts == nullptr) return plain(count, runs, depth, a, b, tile);
    if (count != configured_) configure(count);
    if constexpr (rows > side) {
      if (count > side) return run<2>(count, runs, depth, a, offsets, b, tile, ahead);
    }
    run<1>(count, runs, depth, a, offsets, b, tile, ahead);
  }

 private:
  static constexpr i64 row_bytes = stride * static_cast<i64>(sizeof(bfloat16)), column_bytes = columns * static_cast<i64>(sizeof(BfloatTriple));

  /// So many steps are added up before their sums join the tile's: rounding errors grow with the chain.
  static constexpr i64 chain = 16;

  /// Rows of each of the one or two tiles that `count` rows take; a middle one may be in both.
  static i64 height(i64 count) { return count > side ? (count + 1) / 2 : count; }

  TILE_NOINLINE void configure(i64 count) {
    TileShapes shapes;
    const bool two = count > side;
    const i64 high = height(count);
    for (int t = 0; t < 8; ++t) {
      const bool sums = t < 4, of_rows = !sums && (t == 7) == two;
      if (sums && t % 2 == 1 && !two && vectors == 1) continue;
      shapes.rows[t] = static_cast<uint8_t>(sums || of_rows ? high : steps_);
      shapes.row_bytes[t] = of_rows ? steps_ * 4 : side * 4;
    }
    Tiles::configure(shapes);
    configured_ = count;
  }

  template <int row_tiles>
  static TILE_NOINLINE void run(i64 count, i64 runs, i64 depth, const SplitRows& a, const i64* offsets, const BfloatTriple* b, float* tile, Ahead& ahead) {
    const i64 lower = count - height(count);  // where the second tile of rows begins
    clear<row_tiles>();
    Ahead near = ahead;
    bool first = true;
    i64 room = chain;
    const auto next = [&](const bfloat16* from, const BfloatTriple* columns_of_step) {
      if (room == 0) {
        flush<row_tiles>(count, tile, first);
        clear<row_tiles>();
        first = false;
        room = chain;
      }
      --room;
      step<row_tiles>(from, a.apart, lower, columns_of_step);
    };
    for (i64 r = 0; r < runs; ++r) {
      const bfloat16* from = a.parts + offsets[r];
      i64 left = depth;
      for (; left > (steps_ - 1) * group; left -= depth_of_tile, from += depth_of_tile, b += steps_ * columns) {
        for (int i = 0; i < steps_; i += RowBlock<float, 1, 1, 1>::pace) near.fetch();
        next(from, b);
      }
      if (left <= 0) continue;
      const i64 steps = dot_steps(left, group);
      alignas(64) BfloatTriple rest[steps_ * columns];
      std::memcpy(rest, b, static_cast<size_t>(steps * columns) * sizeof(BfloatTriple));
      std::memset(rest + steps * columns, 0, static_cast<size_t>((steps_ - steps) * columns) * sizeof(BfloatTriple));
      next(from, rest);
      b += steps * columns;
    }
    ahead = near;
    flush<row_tiles>(count, tile, first);
  }

  template <int row_tiles>
  static TILE_INLINE void clear() {
    Tiles::template zero<0>(), Tiles::template zero<2>();
    if constexpr (row_tiles * vectors > 1) Tiles::template zero<1>(), Tiles::template zero<3>();
  }

  /// The sums join the tile, or become it.
  template <int row_tiles>
  static TILE_INLINE void flush(i64 count, float* tile, bool first) {
    alignas(64) float larger[rows * columns], others[rows * columns];
    const i64 second = row_tiles > 1 ? (count - height(count)) * columns : side;
    Tiles::template store<0>(larger, columns * 4), Tiles::template store<2>(others, columns * 4);
    if constexpr (row_tiles * vectors > 1) Tiles::template store<1>(larger + second, columns * 4), Tiles::template store<3>(others + second, columns * 4);
    if (first) {
#pragma omp simd
      for (i64 i = 0; i < count * columns; ++i) tile[i] = larger[i] + others[i];
    } else {
#pragma omp simd
      for (i64 i = 0; i < count * columns; ++i) tile[i] += larger[i] + others[i];
    }
  }

  template <int row_tiles>
  static TILE_INLINE void step(const bfloat16* from, i64 apart, i64 lower, const BfloatTriple* b) {
    const auto* const pairs = reinterpret_cast<const BfloatPair*>(b);
    if constexpr (row_tiles == 1) {
      Tiles::template load<4>(from, row_bytes);
      Tiles::template load<5>(from + apart, row_bytes);
      Tiles::template load<6>(from + 2 * apart, row_bytes);
      pass<vectors, true>(pairs, pairs + side, columns, column_bytes);
    } else {
      Tiles::template load<4>(pairs, column_bytes);
      Tiles::template load<5>(pairs + columns, column_bytes);
      Tiles::template load<6>(pairs + 2 * columns, column_bytes);
      pass<2, false>(from, from + lower * stride, apart, row_bytes);
    }
  }

  /// The six products with the parts at `from`, and at `also`, the small ones first.
  template <int tiles, bool of_columns, class T>
  static TILE_INLINE void pass(const T* from, [[maybe_unused]] const T* also, i64 apart, i64 bytes) {
    const auto third = [&]<int t>(std::integral_constant<int, t>, const T* part) {
      Tiles::template load<7>(part + 2 * apart, bytes);
      add<t + 2, 4, of_columns>();
    };
    const auto second = [&]<int t>(std::integral_constant<int, t>, const T* part) {
      Tiles::template load<7>(part + apart, bytes);
      add<t + 2, 5, of_columns>();
      add<t, 4, of_columns>();
    };
    const auto first = [&]<int t>(std::integral_constant<int, t>, const T* part) {
      Tiles::template load<7>(part, bytes);
      add<t, 5, of_columns>();
      add<t + 2, 6, of_columns>();
      add<t, 4, of_columns>();
    };
    constexpr std::integral_constant<int, 0> one;
    constexpr std::integral_constant<int, 1> other;
    third(one, from);
    if constexpr (tiles > 1) third(other, also);
    second(one, from);
    if constexpr (tiles > 1) second(other, also);
    first(one, from);
    if constexpr (tiles > 1) first(other, also);
  }
  template <int sums, int held, bool of_columns>
  static TILE_INLINE void add() {
    Tiles::template add_products<TileProducts::bf16, sums, of_columns ? held : 7, of_columns ? 7 : held>();
  }

  /// By multiply-adds of floats; weights are the sums of their parts.
  static TILE_NOINLINE void plain(i64 count, i64 runs, i64 depth, const SplitRows& a, const BfloatTriple* b, float* tile) {
    for (i64 i = 0; i < count; ++i)
      for (i64 j = 0; j < columns; j += lanes<float>) {
        const BfloatTriple* row = b;
        vec<float> total = {}, sum = {};
        i64 terms = 0;
        for (i64 r = 0; r < runs; ++r) {
          const float* from = a.floats + a.float_offsets[r] + i * stride;
          for (i64 k = 0; k < depth; k += group, row += columns) {
            const auto* const words = reinterpret_cast<const uint32_t*>(row) + j;
            const vec<uint32_t> first = load(words), second = load(words + columns), third = load(words + 2 * columns);
            sum += from[k] * (((vec<float>)(third << 16) + (vec<float>)(second << 16)) + (vec<float>)(first << 16));
            if (k + 1 < depth) {
              const uint32_t upper = 0xffff0000u;
              sum += from[k + 1] * (((vec<float>)(third & upper) + (vec<float>)(second & upper)) + (vec<float>)(first & upper));
            }
            if ((terms += group) < RowBlock<float, 1, 1, 1>::chain) continue;
            total += sum;
            sum = vec<float>{};
            terms = 0;
          }
        }
        store(tile + i * columns + j, total + sum);
      }
  }

  i64 configured_ = 0;  ///< rows that registers have shapes for
};

}  // namespace tile
