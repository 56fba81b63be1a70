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

/// Products by multiply-add, one value a lane: every type, every machine. A block has 16 × 16 threads with 4 × 4 results each.
template <class SumType>
struct FmaTiles {
  using Sum = SumType;
  static constexpr int tile = 64, depth = 16, side = 16, each = tile / side, threads = side * side;
  /// Columns of a tile in shared memory lie this far apart: one more than the tile, so that a column's elements are in
  /// different banks.
  static constexpr int pitch = tile + 1;
  static constexpr int factor_bytes = (depth * pitch * static_cast<int>(sizeof(Sum)) + 15) / 16 * 16;
  static constexpr int shared_bytes = 2 * factor_bytes;

  /// `left(batch, m, k)`, `right(batch, n, k)`: elements, asked for inside the extents alone. `store(batch, m, n, sum)` gets every
  /// result once. `left_along_k`: neighbours in memory are neighbours in k, not in m; the same for right and n.
  template <bool left_along_k, bool right_along_k, class Exec, class Left, class Right, class Store>
  static TILE_DEVICE void run(Exec& ex, const Extents& e, const Left& left, const Right& right, const Store& store) {
    const i64 columns = (e.n + tile - 1) / tile, rows = (e.m + tile - 1) / tile;
    const i64 batch = ex.block() / (rows * columns), m0 = ex.block() / columns % rows * tile, n0 = ex.block() % columns * tile;
    const auto to_left = ex.template shared<Sum>(0, depth * pitch), to_right = ex.template shared<Sum>(factor_bytes, depth * pitch);
    const auto of_left = ex.template shared<const Sum>(0, depth * pitch), of_right = ex.template shared<const Sum>(factor_bytes, depth * pitch);
    const int row = ex.thread() / side, column = ex.thread() % side;
    Sum sums[each][each] = {};
    for (i64 k0 = 0; k0 < e.k; k0 += depth) {
      fetch<left_along_k>(ex, to_left, [&](int i, int k) { return m0 + i < e.m && k0 + k < e.k ? left(batch, m0 + i, k0 + k) : Sum{}; });
      fetch<right_along_k>(ex, to_right, [&](int i, int k) { return n0 + i < e.n && k0 + k < e.k ? right(batch, n0 + i, k0 + k) : Sum{}; });
      ex.sync();
      for (int k = 0; k < depth; ++k) {
        Sum a[each], b[each];
        for (int i = 0; i < each; ++i) a[i] = of_left[k * pitch + row + i * side], b[i] = of_right[k * pitch + column + i * side];
        for (int i = 0; i < each; ++i)
          for (int j = 0; j < each; ++j) sums[i][j] = multiply_add(a[i], b[j], sums[i][j]);
      }
      ex.sync();
    }
    for (int i = 0; i < each; ++i)
      for (int j = 0; j < each; ++j) {
        const i64 m = m0 + row + i * side, n = n0 + column + j * side;
        if (m < e.m && n < e.n) store(batch, m, n, sums[i][j]);
      }
  }

 private:
  static TILE_INLINE Sum multiply_add(Sum a, Sum b, Sum sum) {
    if constexpr (std::is_floating_point_v<Sum>)
      return a * b + sum;
    else
      return wrapping_add(wrapping_mul(a, b), sum);
  }

  /// A tile from memory to shared memory, each thread some of its elements.
  template <bool along_k, class Exec, class To, class From>
  static TILE_INLINE void fetch(Exec& ex, const To& to, const From& from) {
    for (int at = ex.thread(); at < tile * depth; at += threads) {
      const int i = along_k ? at / depth : at % tile, k = along_k ? at % depth : at / tile;
      to[k * pitch + i] = from(i, k);
    }
  }
};

}  // namespace tile::simt
