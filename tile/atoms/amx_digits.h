#pragma once

// Products of floats on the tile registers of AMX by digits: bytes multiply twice as fast as bfloats, and their sums are exact. Of the nine products of
// three digits a side eight are added up; the sums of those of one magnitude are whole numbers, which become floats at the end. Rows of very unlike
// magnitudes have a fourth digit, whose product with the first makes nine.
//
// Tiles 0 to 4 hold sums, by the power of 256 that they lack beside the first: none, one, two, two, three. 5 and 6 hold rows, 7 columns: seven loads for
// eight products, none of which waits for the one before it. As in amx.h, a tile's sums leave their registers when those of the next one begin.

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "tile/atoms/byte_digits.h"
#include "tile/atoms/row_block.h"
#include "tile/atoms/tile_registers.h"

namespace tile {

/// Rows of floats and their digits: element (i, run r, k) is floats[float_offsets[r] + i · stride + k]. Its digit d, for row i of a tile of rows and lane
/// l of a step s of a run, lies at digits[tile · tile_apart + offsets[r] + s · step_apart + d · digit_apart + i · row_apart + l].
struct DigitRows {
  static constexpr i64 read_beyond = 64;  ///< digits behind a row's end that may be read: zeros multiply them

  const int8_t* digits = nullptr;  ///< null: what digits do not stand for
  bool fourth = false;             ///< whether there are four
  i64 row_apart = 0, digit_apart = 0, step_apart = 0, tile_apart = 0;
  const float* units = nullptr;   ///< of each row
  const float* floats = nullptr;  ///< read where there are no digits
  const i64* float_offsets = nullptr;
};

/// Up to `rows` rows times `vectors` times 16 columns, tile by tile. Rows are cut into tiles
/// of tile_height(count) rows, the last of which may have rows beyond `count` that count for nothing but can be read. A step takes `steps` lanes of four k.
template <int rows_, int vectors_, i64 stride_, int steps_ = 16, class Tiles = TileRegisters>
class AmxDigitBlocks {
 public:
  static_assert(rows_ >= 1 && rows_ <= 64 && vectors_ >= 1 && vectors_ <= 4);
  static_assert(steps_ >= 1 && steps_ <= 16, "a tile has sixteen rows of columns at most");
  static constexpr int group = 4, side = 16, rows = rows_, vectors = vectors_, columns = side * vectors_, steps = steps_;
  using sum_type = float;
  using panel_type = ByteDigits;
  using left_type = float;
  static constexpr i64 stride = stride_;

  AmxDigitBlocks() = default;
  AmxDigitBlocks(const AmxDigitBlocks&) = delete;
  AmxDigitBlocks& operator=(const AmxDigitBlocks&) = delete;
  ~AmxDigitBlocks() {
    if (configured_ > 0) Tiles::release();
  }

  /// Rows of quads of a panel for a run.
  static constexpr i64 panel_steps(i64 depth) { return digit_steps(depth, steps); }
  /// Rows of each tile that `count` rows take.
  static constexpr i64 tile_height(i64 count) {
    const i64 tiles = (count + side - 1) / side;
    return (count + tiles - 1) / tiles;
  }

  static constexpr bool defers = true;

  /// sum(i, j) = Σ left(i, r, k) · weight(r, k, j) for `count` rows, which reach `results` as AmxBlocks' do; `units`: of the columns, until then.
  template <class Results>
  void multiply(const BlockPlace& place, i64 count, i64 runs, i64 depth, const DigitRows& a, const i64* offsets, const ByteDigits* b, Ahead& ahead,
                const float* units, const Results& results) {
    const i64 height = tile_height(count);
    if (a.digits == nullptr || height != configured_) finish(results);
    if (a.digits == nullptr) return plain(place, count, runs, depth, a, b, units, results);
    if (height != configured_) configure(height);
    const i64 pace = RowBlock<float, 1, 1, 1>::pace * vectors * ((count + side - 1) / side);  // lines are meant to come all the while
    for (i64 upper = 0; upper < count; upper += height)
      for (int v = 0; v < vectors; ++v) {
        const i64 tile_rows = count - upper < height ? count - upper : height;
        const int8_t* const from = a.digits + upper / height * a.tile_apart;
        const ByteDigits* const columns_of_tile = b + v * runs * panel_steps(depth) * side;
        if (a.fourth) {
          run<true>(runs, depth, a, from, offsets, columns_of_tile, ahead, pace, results);
        } else {
          run<false>(runs, depth, a, from, offsets, columns_of_tile, ahead, pace, results);
        }
        before_ = {{place.batch, place.row + upper, place.column}, v, tile_rows, 0, units + v * side};
        std::memcpy(row_units_, a.units + upper, static_cast<size_t>(tile_rows) * sizeof(float));
      }
  }

  template <class Results>
  void finish(const Results& results) {
    if (before_.waiting == 0) return;
    leave(std::make_integer_sequence<int, sums_of_tile>());
    hand_on(before_.waiting, results);
  }

 private:
  static constexpr int digits = ByteDigits::count, sums_of_tile = 5;
  /// A tile whose sums results are made of while the next one is computed.
  struct Before {
    BlockPlace place;
    int vector;          ///< of the panel's
    i64 waiting, given;  ///< its rows that are not joined yet, and that are
    const float* units;  ///< of its columns
  };

  /// The next rows of the tile before: the sums of digits, each 256 times as large as the next, as floats in the rows' and columns' units.
  template <class Results>
  TILE_NOINLINE void hand_on(i64 count, const Results& results) {
    constexpr float below = 1.0F / 256;
    if (count > before_.waiting) count = before_.waiting;
    if (count <= 0) return;
    const i64 first = before_.given;
    for (i64 i = first; i < first + count; ++i) {
      TILE_UNROLL
      for (int j = 0; j < side; j += lanes<float>) {
        const i64 at = i * side + j;
        const auto floats = [&](int part) { return __builtin_convertvector(load(sums_[part] + at), vec<float>); };
        const vec<float> third = __builtin_convertvector(load(sums_[2] + at) + load(sums_[3] + at), vec<float>);
        const vec<float> sum = ((floats(4) * below + third) * below + floats(1)) * below + floats(0);
        store(floats_ + i * columns + before_.vector * side + j, sum * (load(before_.units + j) * 0x1p32F) * row_units_[i]);
      }
    }
    before_.given += count, before_.waiting -= count;
    if (before_.vector == vectors - 1) results(before_.place, first, count, floats_ + first * columns);
  }

  TILE_NOINLINE void configure(i64 height) {
    TileShapes shapes;
    for (int t = 0; t < 8; ++t) {
      shapes.rows[t] = static_cast<uint8_t>(t < 7 ? height : steps);
      shapes.row_bytes[t] = t == 5 || t == 6 ? steps * 4 : side * 4;
    }
    Tiles::configure(shapes);
    configured_ = height;
  }

  template <bool fourth, class Results>
  TILE_NOINLINE void run(i64 runs, i64 depth, const DigitRows& a, const int8_t* rows_of_tile, const i64* offsets, const ByteDigits* b, Ahead& ahead, i64 pace,
                         const Results& results) {
    const i64 steps_a_run = panel_steps(depth) / steps, apart = a.row_apart, digit = a.digit_apart, pauses = runs * steps_a_run - 1;
    const i64 rows_a_pause = pauses > 0 ? (before_.waiting + pauses - 1) / pauses : 0;
    Ahead near = ahead;
    for (i64 r = 0; r < runs; ++r) {
      const int8_t* from = rows_of_tile + offsets[r];
      for (i64 s = 0; s < steps_a_run; ++s, from += a.step_apart, b += steps * side) {
        for (i64 i = 0; i < steps; i += pace) near.fetch();
        if (r == 0 && s == 0) {
          step<fourth, true>(from, digit, apart, reinterpret_cast<const ByteQuad*>(b));
        } else {
          step<fourth, false>(from, digit, apart, reinterpret_cast<const ByteQuad*>(b));
          hand_on(rows_a_pause, results);
        }
      }
    }
    ahead = near;
    hand_on(before_.waiting, results);
  }

  template <int... t>
  TILE_INLINE void leave(std::integer_sequence<int, t...>) {
    (Tiles::template store<t>(sums_[t], side * 4), ...);
  }
  template <int sum, int held, bool first>
  TILE_INLINE void add() {
    if constexpr (first) {
      if (before_.waiting > 0) Tiles::template store<sum>(sums_[sum], side * 4);
      Tiles::template zero<sum>();
    }
    Tiles::template add_products<TileProducts::s8s8, sum, held, 7>();
  }

  template <bool fourth, bool first>
  TILE_INLINE void step(const int8_t* rows_of_step, i64 digit, i64 apart, const ByteQuad* b) {
    constexpr i64 bytes = side * 4, next = steps * side;
    Tiles::template stream<7>(b, bytes);
    if constexpr (fourth) Tiles::template load<6>(rows_of_step + 3 * digit, apart), add<4, 6, first>();
    Tiles::template load<5>(rows_of_step, apart), add<0, 5, first>();
    Tiles::template load<6>(rows_of_step + digit, apart), add<1, 6, first>();
    Tiles::template load<5>(rows_of_step + 2 * digit, apart), add<2, 5, first>();
    Tiles::template stream<7>(b + next, bytes);
    add<4, 5, first && !fourth>();
    add<3, 6, first>();
    Tiles::template load<5>(rows_of_step, apart), add<1, 5, false>();
    Tiles::template stream<7>(b + 2 * next, bytes);
    add<2, 5, false>();
    add<4, 6, false>();
  }

  /// By multiply-adds of floats; weights are what their digits make, a step at a time for all rows.
  template <class Results>
  TILE_NOINLINE void plain(const BlockPlace& place, i64 count, i64 runs, i64 depth, const DigitRows& a, const ByteDigits* b, const float* units,
                           const Results& results) {
    float tile[rows * columns] = {};
    const auto* digits_of_step = reinterpret_cast<const int8_t*>(b);
    constexpr i64 lanes_of_step = steps * group, digit = lanes_of_step * side;
    alignas(64) float weights[lanes_of_step][side];
    for (int v = 0; v < vectors; ++v)
      for (i64 r = 0; r < runs; ++r)
        for (i64 k = 0; k < panel_steps(depth) * group; k += lanes_of_step, digits_of_step += digits * digit) {
          for (i64 lane = 0; lane < lanes_of_step; ++lane)
            for (i64 j = 0; j < side; ++j) {
              const int8_t* const first = digits_of_step + (lane / group * side + j) * group + lane % group;
              weights[lane][j] = static_cast<float>((first[0] * 256 + first[digit]) * 256 + first[2 * digit]) * units[v * side + j];
            }
          const i64 used = depth - k < lanes_of_step ? depth - k : lanes_of_step;
          for (i64 i = 0; i < count; ++i) {
            const float* const from = a.floats + a.float_offsets[r] + i * stride + k;
            float sum[side] = {};
            for (i64 lane = 0; lane < used; ++lane)
              for (int j = 0; j < side; ++j) sum[j] += from[lane] * weights[lane][j];
            for (int j = 0; j < side; ++j) tile[i * columns + v * side + j] += sum[j];
          }
        }
    results(place, 0, count, tile);
  }

  alignas(64) int32_t sums_[sums_of_tile][side * side];  ///< of the tile before
  alignas(64) float floats_[side * columns];             ///< its rows
  float row_units_[side];
  Before before_ = {};
  i64 configured_ = 0;  ///< rows that registers have shapes for
};

}  // namespace tile
