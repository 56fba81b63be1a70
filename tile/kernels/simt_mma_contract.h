#pragma once

// Matrix products by the matrix instructions of a warp. A block of 256 threads computes 128 × 128 results from tiles of both factors in
// shared memory; while one pair of tiles is multiplied, the next is on its way.

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
  /// Words of a row in a tile, and from row to row: with 4 words between rows the lanes of a fragment read different banks.
  static constexpr int row_words = 16, pitch = row_words + 4, depth = row_words * Atom::per_word;
  static constexpr int tile_bytes = tile * pitch * 4, stages = 2, shared_bytes = 2 * stages * tile_bytes;

  /// `store(batch, m, n, sum)` gets every result once.
  template <class Exec, class LeftFactor, class RightFactor, class Store>
  static TILE_DEVICE void run(Exec& ex, const Extents& e, const LeftFactor& left, const RightFactor& right, const Store& store) {
    const i64 columns = (e.n + tile - 1) / tile, rows = (e.m + tile - 1) / tile;
    const i64 batch = ex.block() / (rows * columns), m0 = ex.block() / columns % rows * tile, n0 = ex.block() % columns * tile;
    const int warp_m = ex.warp() / warps_n * (tile / warps_m), warp_n = ex.warp() % warps_n * (tile / warps_n), lane = ex.lane();
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
    begin(0);
    for (i64 step = 0; step < steps; ++step) {
      begin(step + 1);
      ex.template wait_copies<1>();
      ex.sync();
      const int stage = static_cast<int>(step % stages) * 2 * tile_bytes;
      const auto a_words = ex.template shared<const uint32_t>(stage, tile * pitch),
                 b_words = ex.template shared<const uint32_t>(stage + tile_bytes, tile * pitch);
      for (int at = 0; at < row_words; at += Atom::words) {
        typename Atom::A a[atoms_m];
        typename Atom::B b[atoms_n];
        for (int i = 0; i < atoms_m; ++i)
          for (int w = 0; w < Atom::a_words; ++w) a[i].word[w] = a_words[(warp_m + i * Atom::m + Atom::a_row(lane, w)) * pitch + at + Atom::a_word(lane, w)];
        for (int j = 0; j < atoms_n; ++j)
          for (int w = 0; w < Atom::b_words; ++w) b[j].word[w] = b_words[(warp_n + j * Atom::n + Atom::b_column(lane, w)) * pitch + at + Atom::b_word(lane, w)];
        for (int i = 0; i < atoms_m; ++i)
          for (int j = 0; j < atoms_n; ++j) Atom::run(ex, sums[i][j], a[i], b[j]);
      }
      ex.sync();  // before the copies after next write over this pair
    }
    ex.template wait_copies<0>();
    for (int i = 0; i < atoms_m; ++i)
      for (int j = 0; j < atoms_n; ++j)
        for (int c = 0; c < 4; ++c) {
          const i64 m = m0 + warp_m + i * Atom::m + Atom::c_row(lane, c), n = n0 + warp_n + j * Atom::n + Atom::c_column(lane, c);
          if (m < e.m && n < e.n) store(batch, m, n, sums[i][j].value[c]);
        }
  }

 private:
  template <class T, class Exec, bool along_k, class F>
  static TILE_DEVICE void fetch(Exec& ex, const Elements<along_k, F>& from, int byte, i64 batch, i64 i0, i64 count, i64 k0, i64 k_count) {
    const auto to = ex.template shared<T>(byte, tile * pitch * Atom::per_word);
    for (int at = ex.thread(); at < tile * depth; at += threads) {
      const int i = along_k ? at / depth : at % tile, k = along_k ? at % depth : at / tile;
      to[i * pitch * Atom::per_word + k] = i0 + i < count && k0 + k < k_count ? from.element(batch, i0 + i, k0 + k) : T{};
    }
  }

  template <class T, class Exec, class F>
  static TILE_DEVICE void fetch(Exec& ex, const Rows<F>& from, int byte, i64 batch, i64 i0, i64 count, i64 k0, i64 k_count) {
    constexpr int chunk = 16 / static_cast<int>(sizeof(T)), row_chunks = depth / chunk;
    const auto to = ex.template shared<T>(byte, tile * pitch * Atom::per_word);
    const auto words = ex.template shared<uint32_t>(byte, tile * pitch);
    for (int at = ex.thread(); at < tile * row_chunks; at += threads) {
      const int i = at / row_chunks, k = at % row_chunks * chunk;
      if (i0 + i < count && k0 + k < k_count) {
        ex.template copy_async<16>(to + (i * pitch * Atom::per_word + k), from.row(batch, i0 + i) + (k0 + k));
      } else {
        for (int w = 0; w < 4; ++w) words[i * pitch + k / Atom::per_word + w] = 0;
      }
    }
  }
};

template <class Left, class Right = Left>
using MmaTiles = MatrixTiles<Left, Right, Mma<Left, Right>>;
template <class Element>
using MfmaTiles = MatrixTiles<Element, Element, Mfma<Element>>;

}  // namespace tile::simt
