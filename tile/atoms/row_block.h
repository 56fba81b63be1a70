#pragma once

// The innermost step of a product whose left rows lie in memory as they are: a block of rows × columns held in vector
// registers, the left operand broadcast from where it lies, the right one streamed from panels.

#include <type_traits>

#include "tile/exec/simd.h"

namespace tile {

/// Memory that will be wanted soon: fetched into the second level cache a few lines at a time, so that the loads of now do not
/// wait for it.
struct Ahead {
  static constexpr i64 line_bytes = 64;

  const char* at = nullptr;
  i64 lines = 0;    ///< left to fetch
  i64 at_once = 1;  ///< lines a call

  TILE_INLINE void fetch() {
    if (lines <= 0) return;
    for (i64 i = 0; i < at_once; ++i) __builtin_prefetch(at + i * line_bytes, 0, 2);
    at += at_once * line_bytes;
    lines -= at_once;
  }
};

/// `rows` rows that begin `stride` elements apart, times `vectors` vectors of columns, computed in P from panels of B. The
/// accumulators take rows · vectors registers; `vectors` more hold a row of the panel, one an element of the left operand.
template <class P, int rows_, int vectors_, i64 stride_, class B = P>
struct RowBlock {
  static_assert(rows_ * vectors_ + vectors_ + (vector_bytes == 64 ? 0 : 1) <= vector_registers,
                "the accumulators and a row of the panel exceed the vector registers; take fewer rows");
  using sum_type = P;
  using panel_type = B;
  static constexpr int rows = rows_, vectors = vectors_, columns = vectors_ * lanes<P>;
  static constexpr i64 stride = stride_;
  static constexpr int pace = 4;  ///< steps of k between calls of Ahead::fetch(), about

  /// So many products of floats are added up before their sum joins the tile's: rounding errors grow with the chain.
  static constexpr i64 chain = std::is_floating_point_v<P> ? 128 : i64{1} << 62;

  /// tile[i][j] = Σ a[offsets[r] + i · stride + k] · b[r · depth + k][j] over `runs` runs r of depth ≥ 1 elements k each, added to what
  /// the tile holds where `accumulate` says so. `ahead`: memory that will be wanted soon and meanwhile comes nearer.
  static TILE_NOINLINE void multiply(i64 runs, i64 depth, const P* a, const i64* offsets, const B* b, P* __restrict tile, Ahead& ahead,
                                     bool accumulate = false) {
    const i64 total = runs * depth, pieces = (total + chain - 1) / chain, piece = (total + pieces - 1) / pieces;
    V sum[chains][rows][vectors] = {};
    Ahead near = ahead;
    bool first = !accumulate;
    i64 room = piece;
    for (i64 r = 0; r < runs; ++r) {
      const P* from = a + offsets[r];
      for (i64 left = depth; left > 0;) {
        const i64 count = left < room ? left : room;
        add(count, from, b, sum, near);
        left -= count;
        from += count;
        b += count * columns;
        room -= count;
        if (room > 0) continue;
        flush(sum, tile, first);
        first = false;
        room = piece;
      }
    }
    if (room < piece) flush(sum, tile, first);
    ahead = near;
  }

 private:
  using V = vec<P>;
  /// A small block has too few sums in flight to hide the latency of the multiply-add: several k get sums of their own.
  static constexpr int chains = rows * vectors >= 8 ? 1 : rows * vectors >= 4 ? 2 : rows * vectors >= 2 ? 4 : 8;

  static TILE_INLINE void add(i64 count, const P* from, const B* b, V (&sum)[chains][rows][vectors], Ahead& ahead) {
    if constexpr (chains > 1) {
      for (; count >= chains; count -= chains, from += chains, b += chains * columns) {
        ahead.fetch();
        TILE_UNROLL
        for (int c = 0; c < chains; ++c) step(from + c, b + c * columns, sum[c]);
      }
    }
    for (; count >= pace; count -= pace, from += pace, b += pace * columns) {
      ahead.fetch();
      // Unrolled, a block that takes all registers would lose some of them to addresses.
      if constexpr (rows * vectors + vectors < vector_registers) {
        TILE_UNROLL
        for (int c = 0; c < pace; ++c) step(from + c, b + c * columns, sum[0]);
      } else {
#pragma GCC unroll 1
        for (int c = 0; c < pace; ++c) step(from + c, b + c * columns, sum[0]);
      }
    }
    for (; count > 0; --count, ++from, b += columns) step(from, b, sum[0]);
  }

  static TILE_INLINE void step(const P* from, const B* b, V (&sum)[rows][vectors]) {
    V row[vectors];
    TILE_UNROLL
    for (int j = 0; j < vectors; ++j) row[j] = load_wide<P>(b + j * lanes<P>);
    TILE_UNROLL
    for (int i = 0; i < rows; ++i) {
      TILE_UNROLL
      for (int j = 0; j < vectors; ++j) sum[i][j] += from[i * stride] * row[j];
    }
  }

  /// The sums join the tile and begin anew.
  static TILE_INLINE void flush(V (&sum)[chains][rows][vectors], P* tile, bool first) {
    TILE_UNROLL
    for (int i = 0; i < rows; ++i) {
      TILE_UNROLL
      for (int j = 0; j < vectors; ++j) {
        P* const at = tile + i * columns + j * lanes<P>;
        V total = sum[0][i][j];
        TILE_UNROLL
        for (int c = 1; c < chains; ++c) total += sum[c][i][j];
        store(at, first ? total : total + load(at));
        TILE_UNROLL
        for (int c = 0; c < chains; ++c) sum[c][i][j] = V{};
      }
    }
  }
};

/// Blocks of up to `rows_` rows of one kind. `tail`: the one smaller number of rows that occurs, where it is known; 0: any.
template <class P, int rows_, int vectors_, i64 stride_, class B = P, int tail = 0>
struct RowBlocks {
  using sum_type = P;
  using panel_type = B;
  static constexpr int rows = rows_, columns = vectors_ * lanes<P>;
  static constexpr i64 stride = stride_;

  static TILE_INLINE void multiply(i64 count, i64 runs, i64 depth, const P* a, const i64* offsets, const B* b, P* tile, Ahead& ahead) {
    if (count == rows) return RowBlock<P, rows, vectors_, stride_, B>::multiply(runs, depth, a, offsets, b, tile, ahead);
    if constexpr (tail > 0) {
      RowBlock<P, tail, vectors_, stride_, B>::multiply(runs, depth, a, offsets, b, tile, ahead);
    } else {
      of_few<rows - 1>(count, runs, depth, a, offsets, b, tile, ahead);
    }
  }

 private:
  template <int most>
  static TILE_INLINE void of_few(i64 count, i64 runs, i64 depth, const P* a, const i64* offsets, const B* b, P* tile, Ahead& ahead) {
    if constexpr (most > 0) {
      if (count == most) return RowBlock<P, most, vectors_, stride_, B>::multiply(runs, depth, a, offsets, b, tile, ahead);
      of_few<most - 1>(count, runs, depth, a, offsets, b, tile, ahead);
    }
  }
};

}  // namespace tile
