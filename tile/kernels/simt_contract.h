#pragma once

// Matrix products on SIMT machines: a block of threads computes a tile of the result from tiles of its factors that it holds in
// shared memory.

#include "tile/cast.h"
#include "tile/exec/simt.h"

namespace tile::simt {

/// out[b, m, n] = Σ_k left[b, m, k] · right[b, n, k]
struct Extents {
  i64 batch = 1, m = 1, n = 1, k = 1;
};

/// Which tile of the result is a block's. Tiles of a batch entry are counted by groups of `group` rows of tiles, within a group column by
/// column: blocks that run together then read fewer rows and columns of the factors than one row of tiles would.
template <int tile_m, int tile_n, int group>
struct TileOrder {
  static_assert(tile_m >= 1 && tile_n >= 1 && group >= 1, "a tile has results, a group rows of tiles");

  /// Of its first result.
  struct Place {
    i64 batch, m, n;
  };

  static constexpr i64 rows(const Extents& e) { return (e.m + tile_m - 1) / tile_m; }
  static constexpr i64 columns(const Extents& e) { return (e.n + tile_n - 1) / tile_n; }
  static constexpr i64 blocks(const Extents& e) { return e.batch * rows(e) * columns(e); }

  static TILE_INLINE Place place(const Extents& e, i64 block) {
    const i64 all_rows = (e.m + tile_m - 1) / tile_m, all_columns = (e.n + tile_n - 1) / tile_n;
    const i64 batch = block / (all_rows * all_columns), at = block % (all_rows * all_columns);
    if constexpr (group == 1) return {batch, at / all_columns * tile_m, at % all_columns * tile_n};
    const i64 first = at / (group * all_columns) * group, inside = at - first * all_columns;
    const i64 height = all_rows - first < group ? all_rows - first : group;
    return {batch, (first + inside % height) * tile_m, inside / height * tile_n};
  }
};

/// How FmaTiles cuts a product: a type with these constants.
struct FmaTiling {
  static constexpr int m = 64, n = 64;          ///< results of a block
  static constexpr int each_m = 4, each_n = 4;  ///< results of a thread
  static constexpr int depth = 16;              ///< elements of the sum at a time
  static constexpr int stages = 1;              ///< pairs of tiles in shared memory; with two, the next pair's elements come while one is multiplied
  static constexpr int group = 1;               ///< see TileOrder
};

/// Products by multiply-add, one value a lane: every type, every machine.
template <class SumType, class Tiling = FmaTiling>
struct FmaTiles : TileOrder<Tiling::m, Tiling::n, Tiling::group> {
  using Sum = SumType;
  using Order = TileOrder<Tiling::m, Tiling::n, Tiling::group>;
  static constexpr int tile_m = Tiling::m, tile_n = Tiling::n, each_m = Tiling::each_m, each_n = Tiling::each_n, depth = Tiling::depth;
  static_assert(each_m >= 1 && each_n >= 1 && tile_m % each_m == 0 && tile_n % each_n == 0, "a thread has as many results of a tile as every other");
  static_assert(depth >= 1 && (Tiling::stages == 1 || Tiling::stages == 2), "shared memory holds one pair of tiles or two");
  static constexpr int side_m = tile_m / each_m, side_n = tile_n / each_n, threads = side_m * side_n;
  static_assert(threads <= 1024, "a block has 1024 threads at most: give each more results");
  /// Columns of a tile in shared memory lie this far apart: one more than the tile, so that a column's elements are in
  /// different banks.
  static constexpr int pitch_m = tile_m + 1, pitch_n = tile_n + 1;
  static constexpr int left_bytes = (depth * pitch_m * static_cast<int>(sizeof(Sum)) + 15) / 16 * 16;
  static constexpr int right_bytes = (depth * pitch_n * static_cast<int>(sizeof(Sum)) + 15) / 16 * 16;
  static constexpr int shared_bytes = Tiling::stages * (left_bytes + right_bytes);

  /// `left(batch, m, k)`, `right(batch, n, k)`: elements, asked for inside the extents alone. `store(batch, m, n, sum)` gets every
  /// result once. `left_along_k`: neighbours in memory are neighbours in k, not in m; the same for right and n.
  template <bool left_along_k, bool right_along_k, class Exec, class Left, class Right, class Store>
  static TILE_DEVICE void run(Exec& ex, const Extents& e, const Left& left, const Right& right, const Store& store) {
    const auto at = Order::place(e, ex.block());
    const auto left_at = [&](int i, i64 k) { return at.m + i < e.m && k < e.k ? left(at.batch, at.m + i, k) : Sum{}; };
    const auto right_at = [&](int i, i64 k) { return at.n + i < e.n && k < e.k ? right(at.batch, at.n + i, k) : Sum{}; };
    Sum sums[each_m][each_n] = {};
    if constexpr (Tiling::stages == 1) {
      for (i64 k0 = 0; k0 < e.k; k0 += depth) {
        Fetch<tile_m, left_along_k>{}.put(ex, left_tile(ex, 0), [&](int i, int k) { return left_at(i, k0 + k); });
        Fetch<tile_n, right_along_k>{}.put(ex, right_tile(ex, 0), [&](int i, int k) { return right_at(i, k0 + k); });
        ex.sync();
        multiply(ex, sums, 0);
        ex.sync();
      }
    } else {
      Fetch<tile_m, left_along_k> next_left;
      Fetch<tile_n, right_along_k> next_right;
      const auto ask = [&](i64 k0) {
        next_left.ask(ex, [&](int i, int k) { return left_at(i, k0 + k); });
        next_right.ask(ex, [&](int i, int k) { return right_at(i, k0 + k); });
      };
      const auto put = [&](int stage) {
        next_left.put(ex, left_tile(ex, stage));
        next_right.put(ex, right_tile(ex, stage));
      };
      if (e.k > 0) {
        ask(0);
        put(0);
      }
      ex.sync();
      int stage = 0;
      for (i64 k0 = 0; k0 < e.k; k0 += depth, stage ^= 1) {
        const bool more = k0 + depth < e.k;
        if (more) ask(k0 + depth);
        multiply(ex, sums, stage);
        if (more) put(stage ^ 1);
        ex.sync();
      }
    }
    const int row = ex.thread() / side_n, column = ex.thread() % side_n;
    TILE_UNROLL_REGISTERS
    for (int i = 0; i < each_m; ++i) {
      TILE_UNROLL_REGISTERS
      for (int j = 0; j < each_n; ++j) {
        const i64 m = at.m + row + i * side_m, n = at.n + column + j * side_n;
        if (m < e.m && n < e.n) store(at.batch, m, n, sums[i][j]);
      }
    }
  }

 private:
  static constexpr int stage_bytes = left_bytes + right_bytes;

  template <class Exec>
  static TILE_INLINE auto left_tile(Exec& ex, int stage) {
    return ex.template shared<Sum>(stage * stage_bytes, depth * pitch_m);
  }
  template <class Exec>
  static TILE_INLINE auto right_tile(Exec& ex, int stage) {
    return ex.template shared<Sum>(stage * stage_bytes + left_bytes, depth * pitch_n);
  }

  template <class Exec>
  static TILE_INLINE void multiply(Exec& ex, Sum (&sums)[each_m][each_n], int stage) {
    const auto of_left = ex.template shared<const Sum>(stage * stage_bytes, depth * pitch_m);
    const auto of_right = ex.template shared<const Sum>(stage * stage_bytes + left_bytes, depth * pitch_n);
    const int row = ex.thread() / side_n, column = ex.thread() % side_n;
    for (int k = 0; k < depth; ++k) {
      Sum a[each_m], b[each_n];
      TILE_UNROLL_REGISTERS
      for (int i = 0; i < each_m; ++i) a[i] = of_left[k * pitch_m + row + i * side_m];
      TILE_UNROLL_REGISTERS
      for (int j = 0; j < each_n; ++j) b[j] = of_right[k * pitch_n + column + j * side_n];
      TILE_UNROLL_REGISTERS
      for (int i = 0; i < each_m; ++i) {
        TILE_UNROLL_REGISTERS
        for (int j = 0; j < each_n; ++j) sums[i][j] = multiply_add(a[i], b[j], sums[i][j]);
      }
    }
  }

  static TILE_INLINE Sum multiply_add(Sum a, Sum b, Sum sum) {
    if constexpr (std::is_floating_point_v<Sum>)
      return a * b + sum;
    else
      return wrapping_add(wrapping_mul(a, b), sum);
  }

  /// A tile on its way from memory to shared memory, each thread some of its elements.
  template <int tile, bool along_k>
  struct Fetch {
    static constexpr int elements = tile * depth, of_thread = (elements + threads - 1) / threads, pitch = tile + 1;
    Sum value[Tiling::stages == 2 ? of_thread : 1];

    static constexpr TILE_INLINE int row(int at) { return along_k ? at / depth : at % tile; }
    static constexpr TILE_INLINE int step(int at) { return along_k ? at % depth : at / tile; }

    template <class Exec, class From>
    TILE_INLINE void ask(Exec& ex, const From& from) {
      TILE_UNROLL_REGISTERS
      for (int i = 0; i < of_thread; ++i)
        if (const int at = ex.thread() + i * threads; at < elements) value[i] = from(row(at), step(at));
    }
    template <class Exec, class To>
    TILE_INLINE void put(Exec& ex, const To& to) const {
      TILE_UNROLL_REGISTERS
      for (int i = 0; i < of_thread; ++i)
        if (const int at = ex.thread() + i * threads; at < elements) to[step(at) * pitch + row(at)] = value[i];
    }
    template <class Exec, class To, class From>
    TILE_INLINE void put(Exec& ex, const To& to, const From& from) const {
      for (int at = ex.thread(); at < elements; at += threads) to[step(at) * pitch + row(at)] = from(row(at), step(at));
    }
  };
};

}  // namespace tile::simt
