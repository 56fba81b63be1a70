#pragma once

// Matrix products by the matrix instructions of a warp. A block of 256 threads computes 128 × 128 results from tiles of both factors in
// shared memory; while one pair of tiles is multiplied, the next two are on their way.

#include "tile/atoms/mfma.h"
#include "tile/atoms/mma.h"
#include "tile/kernels/simt_contract.h"

namespace tile::simt {

/// Elements given one by one: `element(batch, i, k)`, asked for inside the extents alone. `along_k`: neighbours in memory are
/// neighbours in k.
template <bool along_k, class F>
struct Elements {
  F element;
};
template <bool along_k, class F>
TILE_DEVICE Elements<along_k, F> elements(F element) {
  return {element};
}

/// A factor whose rows lie in memory with k contiguous, each row and batch entry beginning at a multiple of 16 bytes, and k a multiple of
/// 16 bytes: copied asynchronously. `row(batch, i)`: a pointer to the row's first element.
template <class F>
struct Rows {
  F row;
};
template <class F>
TILE_DEVICE Rows<F> rows(F row) {
  return {row};
}

/// Left, Right: elements of the factors; Atom: what multiplies them.
template <class Left, class Right, class Atom>
struct MatrixTiles {
  using Sum = typename Atom::Sum;
  static constexpr int tile = 128, threads = 256, warps_m = 2, warps_n = threads / Atom::warp_size / warps_m;
  static constexpr int atoms_m = tile / warps_m / Atom::m, atoms_n = tile / warps_n / Atom::n;
  /// Words of a row in a tile. Pairs of tiles in shared memory: three fill the 48 KiB that every block may have.
  static constexpr int row_words = 16, depth = row_words * Atom::per_word, stages = 3;
  static constexpr int tile_bytes = tile * row_words * 4, shared_bytes = 2 * stages * tile_bytes;

  /// Where a word of a tile lies: the four 16-byte pieces of a row change places from every other row to the next, so that the same piece of eight
  /// rows, which a matrix load reads at once, is in all 32 banks.
  static constexpr TILE_INLINE int place(int row, int word) { return row * row_words + (word ^ row / 2 % 4 * 4); }

  /// `store(batch, m, n, sum)` gets every result once.
  template <class Exec, class LeftFactor, class RightFactor, class Store>
  static TILE_DEVICE void run(Exec& ex, const Extents& e, const LeftFactor& left, const RightFactor& right, const Store& store) {
    const i64 columns = (e.n + tile - 1) / tile, rows = (e.m + tile - 1) / tile;
    const i64 batch = ex.block() / (rows * columns), m0 = ex.block() / columns % rows * tile, n0 = ex.block() % columns * tile;
    const int warp_m = ex.warp() / warps_n * (tile / warps_m), warp_n = ex.warp() % warps_n * (tile / warps_n);
    typename Atom::C sums[atoms_m][atoms_n] = {};
    const i64 steps = (e.k + depth - 1) / depth;
    const auto begin = [&](i64 step) {
      const int stage = static_cast<int>(step % stages) * 2 * tile_bytes;
      if (step < steps) {
        fetch<Left>(ex, left, stage, batch, m0, e.m, step * depth, e.k);
        fetch<Right>(ex, right, stage + tile_bytes, batch, n0, e.n, step * depth, e.k);
      }
      ex.commit_copies();
    };
    for (int step = 0; step < stages - 1; ++step) begin(step);
    for (i64 step = 0; step < steps; ++step) {
      ex.template wait_copies<stages - 2>();
      ex.sync();  // this pair is there for all, and all are done with the one that the next copies write over
      begin(step + stages - 1);
      const int stage = static_cast<int>(step % stages) * 2 * tile_bytes;
      multiply(ex, sums, ex.template shared<const uint32_t>(stage, tile * row_words), warp_m,
               ex.template shared<const uint32_t>(stage + tile_bytes, tile * row_words), warp_n);
    }
    ex.template wait_copies<0>();
    for (int i = 0; i < atoms_m; ++i)
      for (int j = 0; j < atoms_n; ++j)
        for (int c = 0; c < 4; ++c) {
          const i64 m = m0 + warp_m + i * Atom::m + Atom::c_row(ex.lane(), c), n = n0 + warp_n + j * Atom::n + Atom::c_column(ex.lane(), c);
          if (m < e.m && n < e.n) store(batch, m, n, sums[i][j].value[c]);
        }
  }

 private:
  static_assert(atoms_n % Atom::b_at_once == 0);

  /// The warp's part of a pair of tiles.
  template <class Exec, class Words>
  static TILE_DEVICE void multiply(Exec& ex, typename Atom::C (&sums)[atoms_m][atoms_n], const Words& a_words, int warp_m, const Words& b_words, int warp_n) {
    for (int at = 0; at < row_words; at += Atom::words) {
      typename Atom::A a[atoms_m];
      typename Atom::B b[atoms_n];
      for (int i = 0; i < atoms_m; ++i) Atom::load_a(ex, a[i], [&](int row, int word) { return a_words + place(warp_m + i * Atom::m + row, at + word); });
      for (int j = 0; j < atoms_n; j += Atom::b_at_once)
        Atom::load_b(ex, b + j, [&](int row, int word) { return b_words + place(warp_n + j * Atom::n + row, at + word); });
      for (int i = 0; i < atoms_m; ++i)
        for (int j = 0; j < atoms_n; ++j) Atom::run(ex, sums[i][j], a[i], b[j]);
    }
  }

  template <class T, class Exec, bool along_k, class F>
  static TILE_DEVICE void fetch(Exec& ex, const Elements<along_k, F>& from, int byte, i64 batch, i64 i0, i64 count, i64 k0, i64 k_count) {
    const auto to = ex.template shared<T>(byte, tile * depth);
    for (int at = ex.thread(); at < tile * depth; at += threads) {
      const int i = along_k ? at / depth : at % tile, k = along_k ? at % depth : at / tile;
      to[place(i, k / Atom::per_word) * Atom::per_word + k % Atom::per_word] = i0 + i < count && k0 + k < k_count ? from.element(batch, i0 + i, k0 + k) : T{};
    }
  }

  template <class T, class Exec, class F>
  static TILE_DEVICE void fetch(Exec& ex, const Rows<F>& from, int byte, i64 batch, i64 i0, i64 count, i64 k0, i64 k_count) {
    constexpr int chunk = 16 / static_cast<int>(sizeof(T)), row_chunks = depth / chunk;
    const auto words = ex.template shared<uint32_t>(byte, tile * row_words);
    for (int at = ex.thread(); at < tile * row_chunks; at += threads) {
      const int i = at / row_chunks, k = at % row_chunks * chunk;
      const auto to = words + place(i, k / Atom::per_word);
      if (i0 + i < count && k0 + k < k_count) {
        ex.template copy_async<16>(to, from.row(batch, i0 + i) + (k0 + k));
      } else {
        for (int w = 0; w < 4; ++w) to[w] = 0;
      }
    }
  }
};

template <class Left, class Right = Left>
using MmaTiles = MatrixTiles<Left, Right, Mma<Left, Right>>;
template <class Element>
using MfmaTiles = MatrixTiles<Element, Element, Mfma<Element>>;

}  // namespace tile::simt
