#pragma once

// Matrix products by the matrix instructions of a warp. A block computes a tile of the result from tiles of both factors in shared memory;
// while one pair of tiles is multiplied, the next ones are on their way.

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

/// How MatrixTiles cuts a product: a type with these constants.
struct MatrixTiling {
  static constexpr int m = 128, n = 128;          ///< results of a block
  static constexpr int warps_m = 2, warps_n = 4;  ///< of a block
  static constexpr int depth = 32;                ///< elements of the sum in a stage
  static constexpr int stages = 3;                ///< pairs of tiles in shared memory: one is multiplied while the others are on their way
  static constexpr int group = 1;                 ///< see TileOrder
};

/// Left, Right: elements of the factors; Atom: what multiplies them.
template <class Left, class Right, class Atom, class Tiling>
struct MatrixTiles : TileOrder<Tiling::m, Tiling::n, Tiling::group> {
  using Sum = typename Atom::Sum;
  using Order = TileOrder<Tiling::m, Tiling::n, Tiling::group>;
  static constexpr int tile_m = Tiling::m, tile_n = Tiling::n, warps_m = Tiling::warps_m, warps_n = Tiling::warps_n, depth = Tiling::depth,
                       stages = Tiling::stages;
  static constexpr int threads = warps_m * warps_n * Atom::warp_size;
  static_assert(warps_m >= 1 && warps_n >= 1 && threads <= 1024, "a block has a warp or more, and 1024 threads at most");
  static_assert(tile_m % (warps_m * Atom::m) == 0 && tile_n % (warps_n * Atom::n * Atom::b_at_once) == 0, "each warp has whole atoms of the tile");
  static constexpr int atoms_m = tile_m / warps_m / Atom::m, atoms_n = tile_n / warps_n / Atom::n;
  /// Words of a row in a tile.
  static constexpr int row_words = depth / Atom::per_word;
  static_assert(depth % Atom::per_word == 0 && (row_words == 8 || row_words == 16 || row_words == 32) && row_words % Atom::words == 0,
                "a row of a tile has 32, 64 or 128 bytes");
  static_assert(stages >= 2, "a pair of tiles is on its way while another is multiplied");
  static constexpr int left_bytes = tile_m * row_words * 4, right_bytes = tile_n * row_words * 4, stage_bytes = left_bytes + right_bytes;
  static constexpr int shared_bytes = stages * stage_bytes;

  /// Where a word of a tile lies: the 16-byte pieces of a row change places from one 128 bytes of rows to the next, so that the same piece of eight rows,
  /// which a matrix load reads at once, is in all 32 banks.
  static constexpr TILE_INLINE int place(int row, int word) {
    constexpr int pieces = row_words / 4, rows_of_line = 32 / row_words;
    return row * row_words + (word ^ row / rows_of_line % pieces * 4);
  }

  /// `store(batch, m, n, sum)` gets every result once.
  template <class Exec, class LeftFactor, class RightFactor, class Store>
  static TILE_DEVICE void run(Exec& ex, const Extents& e, const LeftFactor& left, const RightFactor& right, const Store& store) {
    const auto at = Order::place(e, ex.block());
    const int warp_m = ex.warp() / warps_n * (tile_m / warps_m), warp_n = ex.warp() % warps_n * (tile_n / warps_n);
    typename Atom::C sums[atoms_m][atoms_n] = {};
    const i64 steps = (e.k + depth - 1) / depth;
    const auto multiply_stage = [&](i64 step) {
      const int stage = static_cast<int>(step % stages) * stage_bytes;
      multiply(ex, sums, ex.template shared<const uint32_t>(stage, tile_m * row_words), warp_m,
               ex.template shared<const uint32_t>(stage + left_bytes, tile_n * row_words), warp_n);
    };
    if constexpr (Atom::copies_asynchronously) {
      const auto begin = [&](i64 step) {
        const int stage = static_cast<int>(step % stages) * stage_bytes;
        if (step < steps) {
          fetch<Left, tile_m>(ex, left, stage, at.batch, at.m, e.m, step * depth, e.k);
          fetch<Right, tile_n>(ex, right, stage + left_bytes, at.batch, at.n, e.n, step * depth, e.k);
        }
        ex.commit_copies();
      };
      for (int step = 0; step < stages - 1; ++step) begin(step);
      for (i64 step = 0; step < steps; ++step) {
        ex.template wait_copies<stages - 2>();
        ex.sync();  // this pair is there for all, and all are done with the one that the next copies write over
        begin(step + stages - 1);
        multiply_stage(step);
      }
      ex.template wait_copies<0>();
    } else {
      Coming<Left, tile_m, LeftFactor> next_left;
      Coming<Right, tile_n, RightFactor> next_right;
      const auto ask = [&](i64 step) {
        next_left.ask(ex, left, at.batch, at.m, e.m, step * depth, e.k);
        next_right.ask(ex, right, at.batch, at.n, e.n, step * depth, e.k);
      };
      const auto put = [&](i64 step) {
        const int stage = static_cast<int>(step % stages) * stage_bytes;
        next_left.put(ex, stage);
        next_right.put(ex, stage + left_bytes);
      };
      if (steps > 0) {
        ask(0);
        put(0);
      }
      for (i64 step = 0; step < steps; ++step) {
        ex.sync();  // this pair is there for all, and all are done with the one before, which the next is written over
        const bool more = step + 1 < steps;
        if (more) ask(step + 1);
        multiply_stage(step);
        if (more) put(step + 1);
      }
    }
    TILE_UNROLL_REGISTERS
    for (int i = 0; i < atoms_m; ++i) {
      TILE_UNROLL_REGISTERS
      for (int j = 0; j < atoms_n; ++j) {
        TILE_UNROLL_REGISTERS
        for (int c = 0; c < 4; ++c) {
          const i64 m = at.m + warp_m + i * Atom::m + Atom::c_row(ex.lane(), c), n = at.n + warp_n + j * Atom::n + Atom::c_column(ex.lane(), c);
          if (m < e.m && n < e.n) store(at.batch, m, n, sums[i][j].value[c]);
        }
      }
    }
  }

 private:
  /// The warp's part of a pair of tiles.
  template <class Exec, class Words>
  static TILE_DEVICE void multiply(Exec& ex, typename Atom::C (&sums)[atoms_m][atoms_n], const Words& a_words, int warp_m, const Words& b_words, int warp_n) {
    TILE_UNROLL_REGISTERS
    for (int at = 0; at < row_words; at += Atom::words) {
      typename Atom::A a[atoms_m];
      typename Atom::B b[atoms_n];
      TILE_UNROLL_REGISTERS
      for (int i = 0; i < atoms_m; ++i) Atom::load_a(ex, a[i], [&](int row, int word) { return a_words + place(warp_m + i * Atom::m + row, at + word); });
      TILE_UNROLL_REGISTERS
      for (int j = 0; j < atoms_n; j += Atom::b_at_once)
        Atom::load_b(ex, b + j, [&](int row, int word) { return b_words + place(warp_n + j * Atom::n + row, at + word); });
      TILE_UNROLL_REGISTERS
      for (int i = 0; i < atoms_m; ++i) {
        TILE_UNROLL_REGISTERS
        for (int j = 0; j < atoms_n; ++j) Atom::run(ex, sums[i][j], a[i], b[j]);
      }
    }
  }

  template <class T, int tile, class Exec, bool along_k, class F>
  static TILE_DEVICE void fetch(Exec& ex, const Elements<along_k, F>& from, int byte, i64 batch, i64 i0, i64 count, i64 k0, i64 k_count) {
    const auto to = ex.template shared<T>(byte, tile * depth);
    for (int at = ex.thread(); at < tile * depth; at += threads) {
      const int i = along_k ? at / depth : at % tile, k = along_k ? at % depth : at / tile;
      to[place(i, k / Atom::per_word) * Atom::per_word + k % Atom::per_word] = i0 + i < count && k0 + k < k_count ? from.element(batch, i0 + i, k0 + k) : T{};
    }
  }

  /// A tile on its way from memory through a thread's registers, where nothing copies past them: the next one, while one is multiplied.
  template <class T, int tile, class Factor>
  struct Coming;
  template <class T, int tile, bool along_k, class F>
  struct Coming<T, tile, Elements<along_k, F>> {
    static constexpr int of_thread = (tile * depth + threads - 1) / threads;
    T value[of_thread];

    template <class Exec>
    TILE_DEVICE void ask(Exec& ex, const Elements<along_k, F>& from, i64 batch, i64 i0, i64 count, i64 k0, i64 k_count) {
      TILE_UNROLL_REGISTERS
      for (int n = 0; n < of_thread; ++n) {
        const int at = ex.thread() + n * threads, i = along_k ? at / depth : at % tile, k = along_k ? at % depth : at / tile;
        if (at < tile * depth) value[n] = i0 + i < count && k0 + k < k_count ? from.element(batch, i0 + i, k0 + k) : T{};
      }
    }
    template <class Exec>
    TILE_DEVICE void put(Exec& ex, int byte) const {
      const auto to = ex.template shared<T>(byte, tile * depth);
      TILE_UNROLL_REGISTERS
      for (int n = 0; n < of_thread; ++n) {
        const int at = ex.thread() + n * threads, i = along_k ? at / depth : at % tile, k = along_k ? at % depth : at / tile;
        if (at < tile * depth) to[place(i, k / Atom::per_word) * Atom::per_word + k % Atom::per_word] = value[n];
      }
    }
  };
  template <class T, int tile, class F>
  struct Coming<T, tile, Rows<F>> {
    static constexpr int chunk = 16 / static_cast<int>(sizeof(T)), row_chunks = depth / chunk, chunks = tile * row_chunks;
    static constexpr int of_thread = (chunks + threads - 1) / threads;
    struct alignas(16) Piece {
      uint32_t word[4];
    };
    uint32_t words[4 * of_thread];

    /// Without branches, so that all loads are under way at once: what lies beyond the factor is read from inside of it, and is zero.
    template <class Exec>
    TILE_DEVICE void ask(Exec& ex, const Rows<F>& from, i64 batch, i64 i0, i64 count, i64 k0, i64 k_count) {
      TILE_UNROLL_REGISTERS
      for (int n = 0; n < of_thread; ++n) {
        const int at = ex.thread() + n * threads;
        const i64 i = i0 + at / row_chunks, k = k0 + at % row_chunks * chunk;
        const bool inside = i < count && k < k_count;
        const Piece piece = *as<const Piece>(from.row(batch, inside ? i : i0) + (inside ? k : k0));
        TILE_UNROLL_REGISTERS
        for (int w = 0; w < 4; ++w) words[4 * n + w] = inside ? piece.word[w] : 0;
      }
    }
    template <class Exec>
    TILE_DEVICE void put(Exec& ex, int byte) const {
      const auto to = ex.template shared<Piece>(byte, chunks);
      TILE_UNROLL_REGISTERS
      for (int n = 0; n < of_thread; ++n) {
        const int at = ex.thread() + n * threads;
        const Piece piece = {{words[4 * n], words[4 * n + 1], words[4 * n + 2], words[4 * n + 3]}};
        if (at < chunks) to[place(at / row_chunks, at % row_chunks * chunk / Atom::per_word) / 4] = piece;
      }
    }
  };

  template <class T, int tile, class Exec, class F>
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

template <class Left, class Right = Left, class Tiling = MatrixTiling>
using MmaTiles = MatrixTiles<Left, Right, Mma<Left, Right>, Tiling>;
template <class Element, class Tiling = MatrixTiling>
using MfmaTiles = MatrixTiles<Element, Element, Mfma<Element>, Tiling>;

}  // namespace tile::simt
