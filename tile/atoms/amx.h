#pragma once

// A block of rows × columns on the tile registers of AMX: up to 2 × 2 tiles of 16 × 16 sums, from the same rows and the same panels of
// lanes as row_block.h. A step takes 16 lanes of k at once: 64 bytes of a row, sixteen rows of a panel.
//
// Tiles 0 to 3 hold sums, 4 and 5 rows, 6 and 7 columns. What is left of k goes through copies padded with zeros: the shapes of tiles
// cannot change while sums are in them.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tile/atoms/dot.h"

namespace tile {

/// `rows` rows that begin `stride` elements apart times `vectors` times 16 columns, for atoms of 32-bit lanes. The process needs leave to
/// use the registers (tilewright::rt::may_use_amx()).
template <class P, int rows_, int vectors_, i64 stride_, class B>
struct AmxBlock {
  using Atom = Dot<P, B>;
  static_assert(rows_ >= 1 && rows_ <= 32 && vectors_ >= 1 && vectors_ <= 2, "sums take 2 x 2 tiles of 16 x 16 at most");
  static_assert(sizeof(B) == 4 && !std::is_same_v<B, ShortPair>, "tiles multiply bytes and bfloats");
  using sum_type = P;
  using panel_type = B;
  using left_type = typename Atom::left_type;
  static constexpr int group = Atom::group, side = 16, rows = rows_, vectors = vectors_, columns = vectors_ * side;
  static constexpr i64 stride = stride_;
  static constexpr int depth_of_tile = side * group;  ///< elements of k

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)
  static constexpr bool native = true;
#else
  static constexpr bool native = false;
#endif

  /// tile[i][j] = start[j] + Σ a[offsets[r] + i · stride + k] · weight(r, k, j), as RowBlock::multiply() has it; start may be null.
  static void multiply(i64 runs, i64 depth, const left_type* a, const i64* offsets, const B* b, P* tile, const P* start = nullptr) {
#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)
    configure();
    begin(start);
    for (i64 r = 0; r < runs; ++r) {
      const left_type* from = a + offsets[r];
      i64 left = depth;
      for (; left >= depth_of_tile; left -= depth_of_tile, from += depth_of_tile, b += side * columns)
        step(from, stride * static_cast<i64>(sizeof(left_type)), b);
      if (left == 0) continue;
      const i64 steps = dot_steps(left, group);
      alignas(64) left_type row_rest[rows * depth_of_tile] = {};
      alignas(64) B column_rest[side * columns] = {};
      for (int i = 0; i < rows; ++i) std::memcpy(row_rest + i * depth_of_tile, from + i * stride, static_cast<size_t>(left) * sizeof(left_type));
      std::memcpy(column_rest, b, static_cast<size_t>(steps * columns) * sizeof(B));
      step(row_rest, 64, column_rest);
      b += steps * columns;
    }
    end(tile);
#else
    emulate(runs, depth, a, offsets, b, tile, start);
#endif
  }

  /// The same, lane by lane in the order that tiles have: integers bit by bit, floats but for rounding.
  static void emulate(i64 runs, i64 depth, const left_type* a, const i64* offsets, const B* b, P* tile, const P* start = nullptr) {
    const i64 steps = dot_steps(depth, group);
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j) {
        P sum = start == nullptr ? P{} : start[j];
        for (i64 r = 0; r < runs; ++r)
          for (i64 s = 0; s < steps; ++s) {
            left_type row[group] = {};
            const i64 count = depth - s * group < group ? depth - s * group : group;
            std::memcpy(row, a + offsets[r] + i * stride + s * group, static_cast<size_t>(count) * sizeof(left_type));
            sum = Atom::emulate(sum, row, b[(r * steps + s) * columns + j].of);
          }
        tile[i * columns + j] = sum;
      }
  }

 private:
#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)
  static constexpr int upper = rows < side ? rows : side, lower = rows - upper;
  static constexpr i64 ld = columns * static_cast<i64>(sizeof(P));

  static void configure() {
    struct alignas(64) Shapes {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shapes;
    for (int t = 0; t < 8; ++t) {
      const bool of_rows = t == 4 || t == 5, below = t == 2 || t == 3 || t == 5;
      const int count = t >= 6 ? side : below ? lower : upper;
      const bool used = count > 0 && (vectors == 2 || of_rows || t % 2 == 0);
      shapes.rows[t] = static_cast<uint8_t>(used ? count : 0);
      shapes.row_bytes[t] = used ? 64 : 0;
    }
    asm volatile("ldtilecfg %0" : : "m"(shapes));
  }

  // Compilers' own intrinsics do not say which memory the instructions read and write.
  template <int tile>
  static TILE_INLINE void load_tile(const void* from, i64 row_bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(row_bytes), "i"(tile) : "memory");
  }
  template <int tile>
  static TILE_INLINE void store_tile(void* to, i64 row_bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(row_bytes), "i"(tile) : "memory");
  }
  /// sums += rows · columns
  template <int sums, int rows_tile, int columns_tile>
  static TILE_INLINE void add_products() {
    if constexpr (std::is_same_v<B, ByteQuad>) {
      asm volatile("tdpbusd %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(columns_tile), "i"(rows_tile), "i"(sums));
    } else {
      asm volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(columns_tile), "i"(rows_tile), "i"(sums));
    }
  }

  /// Every row of sums begins alike: rows zero bytes apart.
  template <int tile>
  static TILE_INLINE void begin_tile(const P* start) {
    if (start == nullptr) {
      asm volatile("tilezero %%tmm%c0" : : "i"(tile));
    } else {
      load_tile<tile>(start + tile % 2 * side, 0);
    }
  }
  static TILE_INLINE void begin(const P* start) {
    begin_tile<0>(start);
    if constexpr (vectors > 1) begin_tile<1>(start);
    if constexpr (lower > 0) begin_tile<2>(start);
    if constexpr (lower > 0 && vectors > 1) begin_tile<3>(start);
  }

  static TILE_INLINE void step(const left_type* from, i64 row_bytes, const B* b) {
    load_tile<6>(b, columns * 4);
    load_tile<4>(from, row_bytes);
    add_products<0, 4, 6>();
    if constexpr (vectors > 1) {
      load_tile<7>(b + side, columns * 4);
      add_products<1, 4, 7>();
    }
    if constexpr (lower > 0) {
      load_tile<5>(reinterpret_cast<const char*>(from) + side * row_bytes, row_bytes);
      add_products<2, 5, 6>();
      if constexpr (vectors > 1) add_products<3, 5, 7>();
    }
  }

  static TILE_INLINE void end(P* tile) {
    store_tile<0>(tile, ld);
    if constexpr (vectors > 1) store_tile<1>(tile + side, ld);
    if constexpr (lower > 0) store_tile<2>(tile + side * columns, ld);
    if constexpr (lower > 0 && vectors > 1) store_tile<3>(tile + side * columns + side, ld);
    asm volatile("tilerelease");
  }
#endif
};

}  // namespace tile
