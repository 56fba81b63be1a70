#pragma once

// Eight registers of up to 16 rows of 64 bytes and what AMX does with them, as instructions and emulated:
//
//   configure(TileShapes), release()       gives registers their shapes, takes them away; they hold zeros then
//   zero<t>(), load<t>(from, row_bytes), store<t>(to, row_bytes)            rows lie row_bytes apart in memory
//   stream<t>(from, row_bytes)     loads what is not read again soon, and leaves the first level cache to what is
//   add_products<kind, sums, rows, columns>()      sums += rows · columns, 32 bits a sum; a column's neighbouring k share 32 bits
//
// Shapes stay until the next configure(). Native ones need the process' leave: tilewright::rt::may_use_amx().

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tile/atoms/dot.h"

namespace tile {

/// What ldtilecfg reads.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

/// Types of the elements of rows and columns.
enum class TileProducts { u8s8, s8s8, s8u8, u8u8, bf16 };

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)
/// The instructions. Compilers' own intrinsics do not say which memory they read and write.
struct NativeTiles {
  static TILE_INLINE void configure(const TileShapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
  static TILE_INLINE void release() { asm volatile("tilerelease"); }
  template <int tile>
  static TILE_INLINE void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
  }
  template <int tile>
  static TILE_INLINE void load(const void* from, i64 row_bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(row_bytes), "i"(tile) : "memory");
  }
  template <int tile>
  static TILE_INLINE void stream(const void* from, i64 row_bytes) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(row_bytes), "i"(tile) : "memory");
  }
  template <int tile>
  static TILE_INLINE void store(void* to, i64 row_bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(row_bytes), "i"(tile) : "memory");
  }
  template <TileProducts kind, int sums, int rows, int columns>
  static TILE_INLINE void add_products() {
    if constexpr (kind == TileProducts::u8s8) asm volatile("tdpbusd %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(columns), "i"(rows), "i"(sums));
    if constexpr (kind == TileProducts::s8s8) asm volatile("tdpbssd %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(columns), "i"(rows), "i"(sums));
    if constexpr (kind == TileProducts::s8u8) asm volatile("tdpbsud %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(columns), "i"(rows), "i"(sums));
    if constexpr (kind == TileProducts::u8u8) asm volatile("tdpbuud %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(columns), "i"(rows), "i"(sums));
    if constexpr (kind == TileProducts::bf16) asm volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(columns), "i"(rows), "i"(sums));
  }
};
#endif

/// The same, bit by bit, for any machine. What would be a fault ends the program.
class EmulatedTiles {
 public:
  static void configure(const TileShapes& shapes) {
    need(shapes.palette == 1 && shapes.start_row == 0, "palette 1 is asked for");
    for (int t = 0; t < 16; ++t) {
      need(shapes.rows[t] <= 16 && shapes.row_bytes[t] <= 64 && (shapes.rows[t] == 0) == (shapes.row_bytes[t] == 0), "a tile has 16 rows of 64 bytes at most");
      need(t < 8 || shapes.rows[t] == 0, "there are eight tiles");
    }
    for (const uint8_t byte : shapes.reserved) need(byte == 0, "what is reserved is zero");
    state = {};
    state.shapes = shapes;
    state.configured = true;
  }
  static void release() { state = {}; }
  /// Whether this thread's registers have shapes.
  static bool configured() { return state.configured; }

  template <int tile>
  static void zero() {
    shape(tile);
    std::memset(state.tiles[tile], 0, sizeof state.tiles[tile]);
  }
  template <int tile>
  static void load(const void* from, i64 row_bytes) {
    const Shape s = shape(tile);
    std::memset(state.tiles[tile], 0, sizeof state.tiles[tile]);
    for (int i = 0; i < s.rows; ++i) std::memcpy(state.tiles[tile][i], static_cast<const char*>(from) + i * row_bytes, static_cast<size_t>(s.bytes));
  }
  template <int tile>
  static void stream(const void* from, i64 row_bytes) {
    load<tile>(from, row_bytes);
  }
  template <int tile>
  static void store(void* to, i64 row_bytes) {
    const Shape s = shape(tile);
    for (int i = 0; i < s.rows; ++i) std::memcpy(static_cast<char*>(to) + i * row_bytes, state.tiles[tile][i], static_cast<size_t>(s.bytes));
  }
  template <TileProducts kind, int sums, int rows, int columns>
  static void add_products() {
    static_assert(sums != rows && sums != columns && rows != columns, "the three tiles of a product differ");
    const Shape s = shape(sums), a = shape(rows), b = shape(columns);
    need(s.rows == a.rows && s.bytes == b.bytes && a.bytes == 4 * b.rows && s.bytes % 4 == 0, "the tiles' shapes are those of a product");
    for (int i = 0; i < s.rows; ++i) {
      char* const sum = state.tiles[sums][i];
      if constexpr (kind == TileProducts::bf16) {
        add_bfloats(sum, state.tiles[rows][i], state.tiles[columns], b.rows, s.bytes / 4);
      } else {
        constexpr bool signed_rows = kind == TileProducts::s8s8 || kind == TileProducts::s8u8,
                       signed_columns = kind == TileProducts::u8s8 || kind == TileProducts::s8s8;
        using L = std::conditional_t<signed_rows, int8_t, uint8_t>;
        using W = std::conditional_t<signed_columns, int8_t, uint8_t>;
        add_bytes<L, W>(sum, state.tiles[rows][i], state.tiles[columns], b.rows, s.bytes / 4);
      }
    }
  }

 private:
  struct State {
    char tiles[8][16][64];
    TileShapes shapes;
    bool configured;
  };
  static inline thread_local State state = {};
  struct Shape {
    int rows, bytes;
  };

  static void need(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "emulated tiles: %s\n", what);
    std::abort();
  }
  static Shape shape(int tile) {
    need(state.configured && state.shapes.rows[tile] > 0, "a tile without a shape is used");
    return {state.shapes.rows[tile], state.shapes.row_bytes[tile]};
  }

  template <class T>
  static T element(const char* row, int index) {
    T value;
    std::memcpy(&value, row + index * static_cast<int>(sizeof value), sizeof value);
    return value;
  }

  template <class L, class W>
  static void add_bytes(char* sums, const char* row, const char (*columns)[64], int steps, int count) {
    for (int n = 0; n < count; ++n) {
      auto total = element<uint32_t>(sums, n);
      for (int k = 0; k < 4 * steps; ++k)
        total += static_cast<uint32_t>(static_cast<int32_t>(element<L>(row, k)) * static_cast<int32_t>(element<W>(columns[k / 4], 4 * n + k % 4)));
      std::memcpy(sums + 4 * n, &total, sizeof total);
    }
  }

  /// Even and odd k have sums of their own, which begin at zero; their total joins the sum. Subnormals count as zeros everywhere.
  static void add_bfloats(char* sums, const char* row, const char (*columns)[64], int steps, int count) {
    float partial[32] = {};
    for (int k = 0; k < steps; ++k) {
      const float left[2] = {detail::flushed(to_float(element<bfloat16>(row, 2 * k))), detail::flushed(to_float(element<bfloat16>(row, 2 * k + 1)))};
      for (int n = 0; n < 2 * count; ++n)
        partial[n] = detail::flushed(__builtin_fmaf(left[n % 2], detail::flushed(to_float(element<bfloat16>(columns[k], n))), partial[n]));
    }
    for (int n = 0; n < count; ++n) {
      const float both = detail::flushed(partial[2 * n] + partial[2 * n + 1]), sum = detail::flushed(detail::flushed(element<float>(sums, n)) + both);
      std::memcpy(sums + 4 * n, &sum, sizeof sum);
    }
  }
};

// Tests of whole kernels define TILE_EMULATED_AMX.
#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__) && !defined(TILE_EMULATED_AMX)
using TileRegisters = NativeTiles;
#else
using TileRegisters = EmulatedTiles;
#endif

}  // namespace tile
