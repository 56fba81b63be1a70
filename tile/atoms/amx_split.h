#pragma once

// Products of floats on the tile registers of AMX, which multiply bfloats: a product of floats is the sum of the products of their parts. Of three parts
// a side, the six products matter that are 2^-16 or larger beside the first, of two the three of 2^-8.
//
// Sums take 1 x 2 or 2 x 1 tiles twice: 0 and 1 are of the larger products, 2 and 3 of the others, so that as many instructions wait for each sum. 4 to 6
// hold one side's parts, 7 one of the other's: nine loads for twelve products.

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
template <int rows_, int vectors_, i64 stride_, int parts_ = 3, int steps_ = 16, class Tiles = TileRegisters>
class AmxSplitBlocks {
 public:
  static constexpr int parts = parts_, group = 2, side = 16, rows = rows_, vectors = vectors_, columns = vectors_ * side;
  static_assert(rows >= 1 && vectors >= 1 && (rows + side - 1) / side * vectors <= 2, "two tiles of sums at most");
  static_assert(steps_ >= 1 && steps_ <= 16, "a tile has sixteen rows of columns at most");
  static_assert(parts_ == 2 || parts_ == 3, "one part is a bfloat, four are no closer than three");
  using sum_type = float;
  using Lanes = BfloatParts<parts_>;
  using panel_type = Lanes;
  using left_type = float;
  static constexpr i64 stride = stride_;
  static constexpr int depth_of_tile = steps_ * group;  ///< elements of k

  AmxSplitBlocks() = default;
  AmxSplitBlocks(const AmxSplitBlocks&) = delete;
  AmxSplitBlocks& operator=(const AmxSplitBlocks&) = delete;
  ~AmxSplitBlocks() {
    if (configured_ > 0) Tiles::release();
  }

  void multiply(i64 count, i64 runs, i64 depth, const SplitRows& a, const i64* offsets, const Lanes* b, float* tile, Ahead& ahead) {
    if (a.parts == nullptr) return plain(count, runs, depth, a, b, tile);
    if (count != configured_) configure(count);
    if constexpr (rows > side) {
      if (count > side) return run<2>(count, runs, depth, a, offsets, b, tile, ahead);
    }
    run<1>(count, runs, depth, a, offsets, b, tile, ahead);
  }

 private:
  static constexpr i64 row_bytes = stride * static_cast<i64>(sizeof(bfloat16)), column_bytes = columns * static_cast<i64>(sizeof(Lanes));

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
      if ((sums && t % 2 == 1 && !two && vectors == 1) || (t == 6 && parts == 2)) continue;
      shapes.rows[t] = static_cast<uint8_t>(sums || of_rows ? high : steps_);
      shapes.row_bytes[t] = of_rows ? steps_ * 4 : side * 4;
    }
    Tiles::configure(shapes);
    configured_ = count;
  }

  template <int row_tiles>
  static TILE_NOINLINE void run(i64 count, i64 runs, i64 depth, const SplitRows& a, const i64* offsets, const Lanes* b, float* tile, Ahead& ahead) {
    const i64 lower = count - height(count);  // where the second tile of rows begins
    clear<row_tiles>();
    Ahead near = ahead;
    bool first = true;
    i64 room = chain;
    const auto next = [&](const bfloat16* from, const Lanes* columns_of_step) {
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
      alignas(64) Lanes rest[steps_ * columns];
      std::memcpy(rest, b, static_cast<size_t>(steps * columns) * sizeof(Lanes));
      std::memset(rest + steps * columns, 0, static_cast<size_t>((steps_ - steps) * columns) * sizeof(Lanes));
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
  static TILE_INLINE void step(const bfloat16* from, i64 apart, i64 lower, const Lanes* b) {
    const auto* const pairs = reinterpret_cast<const BfloatPair*>(b);
    if constexpr (row_tiles == 1) {
      hold<false>(from, apart, row_bytes);
      pass<vectors, true>(pairs, pairs + side, columns, column_bytes);
    } else {
      hold<true>(pairs, columns, column_bytes);
      pass<2, false>(from, from + lower * stride, apart, row_bytes);
    }
  }

  template <bool of_columns, class T>
  static TILE_INLINE void hold(const T* from, i64 apart, i64 bytes) {
    take<4, of_columns>(from, bytes);
    take<5, of_columns>(from + apart, bytes);
    if constexpr (parts > 2) take<6, of_columns>(from + 2 * apart, bytes);
  }
  template <int tile, bool of_columns>
  static TILE_INLINE void take(const void* from, i64 bytes) {
    if constexpr (of_columns) {
      Tiles::template stream<tile>(from, bytes);
    } else {
      Tiles::template load<tile>(from, bytes);
    }
  }

  /// The products with the parts at `from`, and at `also`, the small ones first.
  template <int tiles, bool of_columns, class T>
  static TILE_INLINE void pass(const T* from, const T* also, i64 apart, i64 bytes) {
    if constexpr (parts > 2) {
      with_part<2, 0, of_columns>(from + 2 * apart, bytes);
      if constexpr (tiles > 1) with_part<2, 1, of_columns>(also + 2 * apart, bytes);
    }
    with_part<1, 0, of_columns>(from + apart, bytes);
    if constexpr (tiles > 1) with_part<1, 1, of_columns>(also + apart, bytes);
    with_part<0, 0, of_columns>(from, bytes);
    if constexpr (tiles > 1) with_part<0, 1, of_columns>(also, bytes);
  }

  /// The products of one part with the held ones that are large enough.
  template <int part, int tile, bool of_columns>
  static TILE_INLINE void with_part(const void* from, i64 bytes) {
    constexpr int larger = tile, others = tile + 2;
    take<7, of_columns>(from, bytes);
    if constexpr (parts == 2) {
      if constexpr (part == 0) add<others, 5, of_columns>();
      add<part == 0 ? larger : others, 4, of_columns>();
    } else if constexpr (part == 2) {
      add<others, 4, of_columns>();
    } else if constexpr (part == 1) {
      add<others, 5, of_columns>();
      add<larger, 4, of_columns>();
    } else {
      add<larger, 5, of_columns>();
      add<others, 6, of_columns>();
      add<larger, 4, of_columns>();
    }
  }
  template <int sums, int held, bool of_columns>
  static TILE_INLINE void add() {
    Tiles::template add_products<TileProducts::bf16, sums, of_columns ? held : 7, of_columns ? 7 : held>();
  }

  /// By multiply-adds of floats; weights are the sums of their parts.
  static TILE_NOINLINE void plain(i64 count, i64 runs, i64 depth, const SplitRows& a, const Lanes* b, float* tile) {
    for (i64 i = 0; i < count; ++i)
      for (i64 j = 0; j < columns; j += lanes<float>) {
        const Lanes* row = b;
        vec<float> total = {}, sum = {};
        i64 terms = 0;
        for (i64 r = 0; r < runs; ++r) {
          const float* from = a.floats + a.float_offsets[r] + i * stride;
          for (i64 k = 0; k < depth; k += group, row += columns) {
            const auto* const words = reinterpret_cast<const uint32_t*>(row) + j;
            vec<float> even = {}, odd = {};
            TILE_UNROLL
            for (int p = parts - 1; p >= 0; --p) {
              const vec<uint32_t> pair = load(words + p * columns);
              even += (vec<float>)(pair << 16);
              odd += (vec<float>)(pair & 0xffff0000u);
            }
            sum += from[k] * even;
            if (k + 1 < depth) sum += from[k + 1] * odd;
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
