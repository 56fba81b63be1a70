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
  static_assert(Block::rows <= 16, "a strip is one tile of rows: take a block of 16 rows at most");

  i64 channels;

  /// Strips as high as each other: registers keep their shapes.
  i64 height(i64 tiles) const { return ceil_div(tiles, ceil_div(tiles, Block::rows)); }
  i64 piece(i64 tiles) const { return height(tiles); }
  i64 slot() const { return header + 16 * Block::panel_steps(channels) * 4 * digits / word; }
  i64 scratch() const { return 16 * Block::rows * channels; }
  i64 panel() const { return (Block::panel_steps(channels) + 1) * Block::columns; }
  i64 pauses() const { return Block::panel_steps(channels) / RowBlock<float, 1, 1, 1>::pace; }

  template <class Tiles>
  void prepare(const Tiles& tiles, i64 image, i64 first, i64 count, float* to, i64 apart, float* floats) const {
    const i64 all = height(tiles.count()), point = all * channels;
    for (i64 i = 0; i < count; ++i) tiles.template transform<Dot<float, float>>(image, first + i, floats + i * channels, point);
    for (i64 q = 0; q < Tiles::points; ++q) {
      float *const from = floats + q * point, *const slot = to + q * apart;
      for (i64 i = count * channels; i < point; ++i) from[i] = 0;
      DigitRows rows = digits_of_rows<Block, true>(from, all, channels, slot + units_at, reinterpret_cast<int8_t*>(slot + header));
      rows.floats = slot + header;  // they take as many bytes as digits, of which there are none then
      if (rows.digits == nullptr) std::memcpy(slot + header, from, static_cast<size_t>(point) * sizeof(float));
      new (slot) Prepared{rows, all};
    }
  }

  class Thread {
   public:
    explicit Thread(float* sums) : sums_(sums) {}
    void multiply(const WinogradProducts& of, i64, const float* slot, const ByteDigits* panel, i64 to, Ahead& ahead) {
      static constexpr i64 nowhere[1] = {0};
      const Prepared& strip = *std::launder(reinterpret_cast<const Prepared*>(slot));
      const ByteDigits* const filters = panel + Block::columns;
      block_.multiply({to, 0, 0}, strip.count, 1, of.channels, strip.rows, nowhere, filters, ahead, DigitPanels<Block::columns>::units(filters), Keep{sums_});
    }
    void finish() { block_.finish(Keep{sums_}); }

   private:
    /// Where a block's sums are to be is the batch of its place.
    struct Keep {
      float* sums;
      void operator()(const BlockPlace& place, i64 first, i64 count, const float* from) const {
        std::memcpy(sums + place.batch + (place.row + first) * Block::columns, from, static_cast<size_t>(count * Block::columns) * sizeof(float));
      }
    };
    Block block_;
    float* sums_;
  };

 private:
  /// What a slot begins with, before the rows' units and digits.
  struct Prepared {
    DigitRows rows;
    i64 count;
  };
  static constexpr i64 digits = 4, word = sizeof(float), units_at = 32, header = units_at + 16;
  static_assert(sizeof(Prepared) <= units_at * word, "units begin behind it");
  static i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
};

}  // namespace tile
