#pragma once

// The innermost step of a product whose left rows lie in memory as they are: a block of rows × columns held in vector
// registers, the left operand broadcast from where it lies, the right one streamed from panels.

#include <type_traits>

#include "tile/atoms/dot.h"

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

/// Where a block's first sum belongs.
struct BlockPlace {
  i64 batch = 0, row = 0, column = 0;
};

/// `rows` rows that begin `stride` elements apart, times `vectors` vectors of columns, computed in P from panels of B, which names the
/// atom, Dot<P, B>. The accumulators take rows · vectors registers; `vectors` more hold a row of the panel, as many the columns' units where there are any, one
/// an element of the left operand, which multiply-adds of 64 bytes take from memory.
template <class P, int rows_, int vectors_, i64 stride_, class B = P>
struct RowBlock {
  using Atom = Dot<P, B>;
  static constexpr int group = Atom::group;
  /// Whether weights are multiples of units that their columns have.
  static constexpr bool in_units = requires(const B* from, vec<P> units) { Atom::load_lanes(from, units); };
  static_assert(rows_ * vectors_ + vectors_ * (in_units ? 2 : 1) + (vector_bytes == 64 && group == 1 && !in_units ? 0 : 1) <= vector_registers,
                "the accumulators and a row of the panel exceed the vector registers; take fewer rows");
  using sum_type = P;
  using panel_type = B;
  using left_type = typename Atom::left_type;
  static constexpr int rows = rows_, vectors = vectors_, columns = vectors_ * lanes<P>;
  static constexpr i64 stride = stride_;
  static constexpr int pace = 4;  ///< steps of k between calls of Ahead::fetch(), about
  /// Blocks of few rows wait for weights. These are asked for so many bytes before they are loaded: a page, at whose ends machines stop to do so by themselves.
  static constexpr bool waits = rows <= 4;
  static constexpr i64 page = 4096;

  /// So many products of floats are added up before their sum joins the tile's: rounding errors grow with the chain.
  static constexpr i64 chain = std::is_floating_point_v<P> ? 128 / group : i64{1} << 62;

  /// tile[i][j] = Σ a[offsets[r] + i · stride + k] · weight(r, k, j) over `runs` runs r of depth ≥ 1 elements k each, added to what
  /// the tile holds where `accumulate` says so; b holds dot_steps(depth, group) rows of the panel a run. Integer sums begin at start[j],
  /// where that is given; of weights in units, start[j] is the column's. `ahead`: memory that will be wanted soon and meanwhile comes nearer.
  static TILE_NOINLINE void multiply(i64 runs, i64 depth, const left_type* a, const i64* offsets, const B* b, P* __restrict tile, Ahead& ahead,
                                     bool accumulate = false, const P* start = nullptr) {
    const i64 steps = depth / group, total = runs * dot_steps(depth, group), pieces = (total + chain - 1) / chain;
    const i64 piece = std::is_floating_point_v<P> ? (total + pieces - 1) / pieces : chain;
    V sum[chains][rows][vectors] = {};
    if constexpr (std::is_integral_v<P>) begin(sum[0], start);
    V units[vectors] = {};
    if constexpr (in_units) {
      TILE_UNROLL
      for (int j = 0; j < vectors; ++j) units[j] = load(start + j * lanes<P>);
    }
    Ahead near = ahead;
    bool first = !accumulate;
    i64 room = piece;
    for (i64 r = 0; r < runs; ++r) {
      const left_type* from = a + offsets[r];
      i64 left = steps;
      do {
        if (room <= 0) {
          flush(sum, tile, first);
          first = false;
          room = piece;
        }
        const i64 count = left < room ? left : room;
        if (group == 1 || count > 0) add(count, from, b, sum, units, near);
        left -= count;
        from += count * group;
        b += count * columns;
        room -= count;
      } while (left > 0);
      if constexpr (group > 1) {
        if (const i64 rest = depth % group; rest > 0) {
          step<true>(from + rest, b, sum[0], units, rest, depth - rest);
          b += columns;
          --room;
        }
      }
    }
    if (room < piece) flush(sum, tile, first);
    ahead = near;
  }

 private:
  using V = vec<P>;
  /// A small block has too few sums in flight to hide the latency of the multiply-add: several k get sums of their own.
  static constexpr int chains = rows * vectors >= 8 ? 1 : rows * vectors >= 4 ? 2 : rows * vectors >= 2 ? 4 : 8;

  static TILE_INLINE void begin(V (&sum)[rows][vectors], const P* start) {
    if (start == nullptr) return;
    TILE_UNROLL
    for (int j = 0; j < vectors; ++j) {
      TILE_UNROLL
      for (int i = 0; i < rows; ++i) sum[i][j] = load(start + j * lanes<P>);
    }
  }

  static TILE_INLINE void add(i64 count, const left_type* from, const B* b, V (&sum)[chains][rows][vectors], const V (&units)[vectors], Ahead& ahead) {
    if constexpr (chains > 1) {
      for (; count >= chains; count -= chains, from += chains * group, b += chains * columns) {
        ahead.fetch();
        TILE_UNROLL
        for (int c = 0; c < chains; ++c) step(from + c * group, b + c * columns, sum[c], units);
      }
    }
    for (; count >= pace; count -= pace, from += pace * group, b += pace * columns) {
      ahead.fetch();
      // Unrolled, a block that takes all registers would lose some of them to addresses.
      if constexpr (rows * vectors + vectors < vector_registers) {
        TILE_UNROLL
        for (int c = 0; c < pace; ++c) step(from + c * group, b + c * columns, sum[0], units);
      } else {
#pragma GCC unroll 1
        for (int c = 0; c < pace; ++c) step(from + c * group, b + c * columns, sum[0], units);
      }
    }
    for (; count > 0; --count, from += group, b += columns) step(from, b, sum[0], units);
  }

  /// `partial`: `from` is the end of a run, of which `rest` elements are left; `before` elements lie in front of these.
  template <bool partial = false>
  static TILE_INLINE void step(const left_type* from, const B* b, V (&sum)[rows][vectors], [[maybe_unused]] const V (&units)[vectors],
                               [[maybe_unused]] i64 rest = 0, [[maybe_unused]] i64 before = 0) {
    typename Atom::Lanes row[vectors];
    TILE_UNROLL
    for (int j = 0; j < vectors; ++j) {
      if constexpr (waits) __builtin_prefetch(reinterpret_cast<const char*>(b + j * lanes<P>) + page);
      if constexpr (in_units) {
        row[j] = Atom::load_lanes(b + j * lanes<P>, units[j]);
      } else {
        row[j] = Atom::load_lanes(b + j * lanes<P>);
      }
    }
    TILE_UNROLL
    for (int i = 0; i < rows; ++i) {
      typename Atom::Broadcast left;
      if constexpr (partial) {
        left = Atom::broadcast_rest(from + i * stride, rest, before);
      } else {
        left = Atom::broadcast(from + i * stride);
      }
      TILE_UNROLL
      for (int j = 0; j < vectors; ++j) Atom::add(sum[i][j], left, row[j]);
    }
  }

  /// Integers wrap: where their sums begin, at what zero points give, may be far from where they end.
  static TILE_INLINE V plus(V a, V b) {
    if constexpr (std::is_integral_v<P>) {
      using U = vec<std::make_unsigned_t<P>>;
      return (V)((U)a + (U)b);
    } else {
      return a + b;
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
        for (int c = 1; c < chains; ++c) total = plus(total, sum[c][i][j]);
        store(at, first ? total : plus(total, load(at)));
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
  using left_type = typename Dot<P, B>::left_type;
  static constexpr int group = Dot<P, B>::group, rows = rows_, columns = vectors_ * lanes<P>;
  static constexpr i64 stride = stride_;

  static TILE_INLINE void multiply(i64 count, i64 runs, i64 depth, const left_type* a, const i64* offsets, const B* b, P* tile, Ahead& ahead,
                                   const P* start = nullptr) {
    if (count == rows) return RowBlock<P, rows, vectors_, stride_, B>::multiply(runs, depth, a, offsets, b, tile, ahead, false, start);
    if constexpr (tail > 0) {
      RowBlock<P, tail, vectors_, stride_, B>::multiply(runs, depth, a, offsets, b, tile, ahead, false, start);
    } else {
      of_few<rows - 1>(count, runs, depth, a, offsets, b, tile, ahead, start);
    }
  }

 private:
  template <int most>
  static TILE_INLINE void of_few(i64 count, i64 runs, i64 depth, const left_type* a, const i64* offsets, const B* b, P* tile, Ahead& ahead, const P* start) {
    if constexpr (most > 0) {
      if (count == most) return RowBlock<P, most, vectors_, stride_, B>::multiply(runs, depth, a, offsets, b, tile, ahead, false, start);
      of_few<most - 1>(count, runs, depth, a, offsets, b, tile, ahead, start);
    }
  }
};

}  // namespace tile
