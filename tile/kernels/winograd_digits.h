#pragma once

// Winograd's products by digits on tile registers: a strip's transformed tiles are rows of floats for each of the 16 points, each row with a unit of its own
// and four digits: roundings of transforms leave no room for those of three.

#include <cstring>
#include <new>

#include "tile/kernels/digit_rows.h"
#include "tile/kernels/winograd.h"

namespace tile {

/// Filters lie as [panel, 16 points, rows of a panel as pack_digits() writes it].
template <int rows_, int vectors_, i64 stride_, int steps_, class Registers>
struct WinogradProducts<AmxDigitBlocks<rows_, vectors_, stride_, steps_, Registers>> {
  using Block = AmxDigitBlocks<rows_, vectors_, stride_, steps_, Registers>;
  using sum_type = float;
  using panel_type = ByteDigits;

  i64 channels;

  /// Strips as high as each other: registers keep their shapes.
  i64 height(i64 tiles) const { return ceil_div(tiles, ceil_div(tiles, Block::rows)); }
  i64 slot() const { return header + digits() * 4 / word; }
  i64 near() const { return digits() * 4 / word; }
  i64 scratch() const { return 16 * Block::rows * channels; }
  i64 panel() const { return (Block::panel_steps(channels) + 1) * Block::columns; }
  i64 pauses() const { return Block::panel_steps(channels) / RowBlock<float, 1, 1, 1>::pace; }

  template <class Tiles>
  void prepare(const Tiles& tiles, i64 image, i64 first, i64 count, float* to, i64 apart, float* floats) const {
    const i64 all = height(tiles.count()), point = all * channels;
    for (i64 i = 0; i < count; ++i) tiles.transform(image, first + i, floats + i * channels, point);
    for (i64 q = 0; q < Tiles::points; ++q) {
      float* const rows = floats + q * point;
      for (i64 i = count * channels; i < point; ++i) rows[i] = 0;
      split(rows, all, to + q * apart);
    }
  }

  class Thread {
   public:
    void multiply(const WinogradProducts& of, i64, const float* slot, const ByteDigits* panel, float* to, Ahead& ahead) {
      static constexpr i64 nowhere[1] = {0};
      const auto& rows = *reinterpret_cast<const Rows*>(slot);
      block_.multiply({reinterpret_cast<i64>(to), 0, 0}, rows.count, 1, of.channels, rows.digits, nowhere, panel + Block::columns, ahead,
                      DigitPanels<Block::columns>::units(panel + Block::columns), keep);
    }
    void finish() { block_.finish(keep); }

   private:
    /// A block's place is where its sums are to be.
    static void keep(const BlockPlace& place, i64 first, i64 count, const float* sums) {
      std::memcpy(reinterpret_cast<float*>(place.batch) + (place.row + first) * Block::columns, sums,
                  static_cast<size_t>(count * Block::columns) * sizeof(float));
    }
    Block block_;
  };

 private:
  /// What a slot begins with, before the rows' units and digits.
  struct Rows {
    DigitRows digits;
    i64 count;
  };
  static constexpr i64 word = sizeof(float), units_at = 32, header = units_at + 64;
  static_assert(sizeof(Rows) <= units_at * word && Block::rows <= 16, "one tile of rows");
  /// What a slot holds of a point's rows.
  void split(const float* from, i64 count, float* slot) const {
    static constexpr i64 nowhere[1] = {0};
    float* const units = slot + units_at;
    bool all = true;
    for (i64 i = 0; i < count; ++i) {
      units[i] = unit_of(detail::largest_bits(from + i * channels, channels), [](float) { return false; });
      all &= units[i] != 0;
    }
    if (!all) {  // floats take as many bytes as their digits
      std::memcpy(slot + header, from, static_cast<size_t>(count * channels) * sizeof(float));
      new (slot) Rows{{.digits = nullptr, .floats = slot + header, .float_offsets = nowhere}, count};
      return;
    }
    constexpr i64 row = Block::steps * 4;
    auto* const to = reinterpret_cast<int8_t*>(slot + header);
    const i64 digit = Block::tile_height(count) * row, step = 4 * digit;
    for (i64 i = 0; i < count; ++i) detail::split_row<4, row>(from + i * channels, channels, 256 / units[i], to + i * row, digit);
    new (slot) Rows{{to, true, row, digit, step, 0, units, nullptr, nullptr}, count};
  }
  static i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
  /// Bytes of one digit of all rows.
  i64 digits() const { return 16 * Block::panel_steps(channels) * 4; }
};

}  // namespace tile
