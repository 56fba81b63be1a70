#pragma once

// The innermost step of a matrix product: a block of rows × columns held in vector registers.

#include <type_traits>

#include "tile/exec/simd.h"

namespace tile {

/// Rows (each one broadcast operand) times `vectors` vectors of columns, computed in P. The accumulators take
/// rows · vectors registers; `vectors` more hold a row of B.
template <class P, int rows_, int vectors_>
struct RegisterBlock {
  static_assert(rows_ * vectors_ + vectors_ + 1 <= vector_registers, "the accumulators and a row of B exceed the vector registers; take fewer rows");
  using panel_type = P;
  static constexpr int rows = rows_, vectors = vectors_, columns = vectors_ * lanes<P>;

  /// So many products of floats are added up before their sum joins the tile's: rounding errors grow with the chain, and the tile
  /// lies in the first level cache.
  static constexpr i64 chain = std::is_floating_point_v<P> ? 128 : i64{1} << 62;

  /// tile[i][j] (+)= Σk a[k][i] · b[k][j] for `used` vectors of columns and depth ≥ 1 values of k. Both panels hold one k
  /// after another: a[k * rows + i], b[k * columns + j]; tile[i * columns + j].
  template <int used = vectors_>
  static TILE_NOINLINE void multiply(i64 depth, const P* __restrict a, const P* __restrict b, P* __restrict tile, bool accumulate) {
    for (; depth > 0; accumulate = true) {
      const i64 pieces = (depth + chain - 1) / chain, length = depth / pieces;
      add_chain<used>(length, a, b, tile, accumulate);
      a += length * rows;
      b += length * columns;
      depth -= length;
    }
  }

 private:
  template <int used>
  static TILE_INLINE void add_chain(i64 depth, const P* __restrict a, const P* __restrict b, P* __restrict tile, bool accumulate) {
    // A small block has too few sums in flight to hide the latency of the multiply-add: several k get sums of their own.
    constexpr int chains = rows * used >= 8 ? 1 : rows * used >= 4 ? 2 : 4;
    using V = vec<P>;
    V sum[chains][rows][used] = {};
    if constexpr (chains > 1) {
      for (; depth > chains; depth -= chains, a += chains * rows, b += chains * columns) {
        TILE_UNROLL
        for (int c = 0; c < chains; ++c) step<used>(a + c * rows, b + c * columns, sum[c]);
      }
    }
    do {
      step<used>(a, b, sum[0]);
      a += rows;
      b += columns;
    } while (--depth > 0);
    TILE_UNROLL
    for (int i = 0; i < rows; ++i) {
      TILE_UNROLL
      for (int j = 0; j < used; ++j) {
        P* const at = tile + i * columns + j * lanes<P>;
        V total = sum[0][i][j];
        TILE_UNROLL
        for (int c = 1; c < chains; ++c) total += sum[c][i][j];
        store(at, accumulate ? total + load(at) : total);
      }
    }
  }

  template <int used>
  static TILE_INLINE void step(const P* __restrict a, const P* __restrict b, vec<P> (&sum)[rows][used]) {
    vec<P> row[used];
    TILE_UNROLL
    for (int j = 0; j < used; ++j) row[j] = load(b + j * lanes<P>);
    TILE_UNROLL
    for (int i = 0; i < rows; ++i) {
      TILE_UNROLL
      for (int j = 0; j < used; ++j) sum[i][j] += a[i] * row[j];
    }
  }
};

/// The largest block that the machine's registers hold well: 14 × 2 vectors with 32 wide ones, 6 × 2 with 16, 8 × 3 on
/// NEON, whose narrow vectors need more columns to make up for the broadcasts.
inline constexpr int block_vectors = vector_registers == 32 && vector_bytes == 16 ? 3 : 2;
inline constexpr int block_rows = vector_registers == 16 ? 6 : vector_bytes == 16 ? 8 : 14;

/// Rows a block should have for `extent` rows in all, so that the last block is nearly as full as the others.
constexpr int balanced_rows(i64 extent, int most = block_rows) {
  if (extent <= 0) return 1;
  const i64 blocks = (extent - 1) / most + 1;
  return static_cast<int>((extent - 1) / blocks + 1);
}

}  // namespace tile
