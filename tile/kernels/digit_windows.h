#pragma once

// The windows of a convolution as AmxDigitBlocks take them: strips that follow each other make a bundle, whose numbers have one unit, and each position of
// the input becomes digits once a bundle.

#include "tile/kernels/digit_rows.h"
#include "tile/kernels/joined_windows.h"

namespace tile {

/// A strip. It lasts as long as its bundle; one that has digits of its own only until the next such strip is asked for.
struct DigitWindow : DigitStrip {
  bool lasts;
};

/// The digits of JoinedWindows of floats, dense ones, strips of which may be asked for when prepare() has seen their bundle. Digits lie in the order of the
/// padded lines, position by position, phase after phase; positions that no window of one column meets are left out. A strip has three digits,
/// or four, or, where these do not do and in a bundle with infinities or NaN, digits of its own, as DigitStrips makes them.
template <class Left, class Block>
struct DigitWindows {
  static constexpr i64 stride = Block::stride, lane_bytes = Block::steps * 4;

  Left left;

  i64 strips() const { return left.strips(); }
  i64 runs() const { return left.runs(); }
  i64 depth() const { return left.depth(); }
  Bundles bundles() const {
    constexpr i64 most_bytes = 1 << 18;
    return Bundles::of_windows(strips(), Block::rows, reach() / row_positions(), most_bytes / (ByteDigits::count * left.phases() * row_elements()));
  }
  i64 scratch() const { return places().alone + alone().scratch(); }
  /// Three digits, as most bundles have them.
  i64 near_scratch() const { return plane() * ByteDigits::count / word; }
  i64 strip_bytes() const { return plane() * ByteDigits::count; }
  void begin(float* scratch) const {
    auto* to = reinterpret_cast<i64*>(scratch + places().offsets);
    left.each_run([&](i64 phase, i64 line, i64 column) { *to++ = (phase * positions() + line * line_positions() + column) * channels(); });
    alone().begin(scratch + places().alone);
  }
  template <class F>
  TILE_INLINE void products(i64 first, i64 rows, F&& each) const {
    left.products(first, rows, each);
  }

  void prepare(i64 b, i64 bundle, float* scratch) const {
    const Places at = places();
    const i64 begin = bundles().first(bundle), end = bundles().first(bundle + 1), first = begin * Block::rows;
    const i64 rows = least(end * Block::rows, left.all_rows()) - first;
    auto* const largest = reinterpret_cast<uint32_t*>(scratch + at.largest);
    float* const squares = scratch + at.squares;
    lines(b, first, rows, [&](const float* from, i64 apart, i64 position, i64 before, i64 inside, i64 count) {
      for (i64 i = position; i < position + count; ++i) largest[i] = 0, squares[i] = 0;
      for (i64 i = 0; i < inside; ++i) measure(from + i * apart, largest[position + before + i], squares[position + before + i]);
    });
    uint32_t most = 0;
    for (i64 phase = 0; phase < left.phases(); ++phase)
      for (i64 i = phase * positions(); i < phase * positions() + reached(rows); ++i) most = largest[i] > most ? largest[i] : most;
    const float unit = unit_of(most, [&](float even) {
      bool all = true;
      lines(b, first, rows, [&](const float* from, i64 apart, i64, i64, i64 inside, i64) {
        for (i64 i = 0; i < inside && all; ++i) all = are_multiples(from + i * apart, channels(), even);
      });
      return all;
    });
    auto* const counts = reinterpret_cast<int32_t*>(scratch + at.counts);
    bool fourth = false;
    for (i64 s = begin; s < end; ++s) {
      counts[s - begin] = unit != 0 ? digits_of_strip(s, (s - begin) * Block::rows * row_positions(), most, largest, squares) : 0;
      fourth |= counts[s - begin] == 4;
    }
    for (i64 i = 0; i < Block::rows; ++i) scratch[at.units + i] = unit;
    if (unit == 0) return;
    auto* const digits = reinterpret_cast<int8_t*>(scratch + at.digits);
    lines(b, first, rows, [&](const float* from, i64 apart, i64 position, i64 before, i64 inside, i64 count) {
      int8_t* const to = digits + position * channels();
      for (int d = 0; d < (fourth ? 4 : 3); ++d) {
        std::memset(to + d * plane(), 0, static_cast<size_t>(before * channels()));
        std::memset(to + d * plane() + (before + inside) * channels(), 0, static_cast<size_t>((count - before - inside) * channels()));
      }
      const i64 pieces = apart == channels() ? 1 : inside, floats = inside / (pieces > 0 ? pieces : 1) * channels();
      for (i64 i = 0; i < pieces; ++i) {
        int8_t* const piece = to + before * channels() + i * floats;
        if (fourth) {
          split_piece<4>(from + i * apart, floats, 256 / unit, piece, plane());
        } else {
          split_piece<3>(from + i * apart, floats, 1 / unit, piece, plane());
        }
      }
    });
  }

  DigitWindow strip(i64 b, i64 index, float* scratch) const {
    const Places at = places();
    const i64 in_bundle = index - bundles().first(bundles().of(index));
    const int32_t count = reinterpret_cast<const int32_t*>(scratch + at.counts)[in_bundle];
    if (count == 0) return {alone().strip(b, index, scratch + at.alone), false};
    const i64 m0 = index * Block::rows, rows = left.rows_of(index), row = row_elements();
    const auto* const digits = reinterpret_cast<const int8_t*>(scratch + at.digits) + in_bundle * Block::rows * row;
    const auto* const offsets = reinterpret_cast<const i64*>(scratch + at.offsets);
    return {{{digits, count == 4, row, plane(), lane_bytes, Block::tile_height(rows) * row, scratch + at.units, nullptr, nullptr}, offsets, m0, rows}, true};
  }

 private:
  static constexpr i64 word = sizeof(float), words = sizeof(i64) / word;

  static i64 least(i64 a, i64 b) { return a < b ? a : b; }
  static i64 whole(i64 floats) { return (floats + 15) / 16 * 16; }

  DigitStrips<Left, Block> alone() const { return {left}; }

  /// Elements of a position.
  i64 channels() const { return left.windows.channels; }
  /// Positions of the input that are one here, and positions from one row to the next: windows of one column leave out those between them.
  i64 thinned() const { return left.windows.kernel[1] == 1 ? left.windows.stride[1] : 1; }
  i64 row_positions() const { return left.windows.stride[1] / thinned(); }
  i64 row_elements() const { return row_positions() * channels(); }
  i64 line_positions() const { return left.line_rows() * row_positions(); }
  /// Positions of a phase that a window reaches beyond its first, and that so many rows do.
  i64 reach() const { return left.lines_below() * line_positions() + (left.windows.kernel[1] - 1) * left.windows.dilation[1]; }
  i64 reached(i64 rows) const { return rows * row_positions() + reach(); }
  /// Those of a phase of a bundle.
  i64 positions() const { return reached(bundles().together() * Block::rows); }
  /// One digit of all positions, and of rows beyond, which tiles may read.
  i64 plane() const {
    constexpr i64 rows_beyond = (Block::rows - 1) / 16;
    return (left.phases() * positions() * channels() + rows_beyond * row_elements() + DigitRows::read_beyond + 63) / 64 * 64;
  }

  /// Where what lies in a bundle's scratch memory.
  struct Places {
    i64 offsets, units, counts, largest, squares, digits, alone;
  };
  Places places() const {
    Places at = {};
    at.units = at.offsets + whole(runs() * words);
    at.counts = at.units + whole(Block::rows);
    at.largest = at.counts + whole(bundles().together());
    at.squares = at.largest + whole(left.phases() * positions());
    at.digits = at.squares + whole(left.phases() * positions());
    at.alone = at.digits + whole(4 * plane() / word);
    return at;
  }

  /// each(elements of the input, how far positions are apart there, where in the bundle, positions before those, those, all) for the lines, or pieces of
  /// them, that rows [first, first + rows) reach.
  template <class F>
  TILE_INLINE void lines(i64 b, i64 first, i64 rows, F&& each) const {
    const auto& windows = left.windows;
    const i64 width = line_positions(), begin = first * row_positions(), end = begin + reached(rows), thin = thinned(), pitch = windows.pitch[1];
    const i64 input0 = (windows.pad[1] + thin - 1) / thin, input1 = (windows.pad[1] + windows.input[1] + thin - 1) / thin;  // positions of a line
    for (i64 phase = 0; phase < left.phases(); ++phase)
      for (i64 at = begin; at < end;) {
        const i64 column = at % width, count = least(width - column, end - at);
        const auto clamp = [&](i64 i) { return i < column ? 0 : i > column + count ? count : i - column; };
        const i64 low = clamp(input0), high = clamp(input1);
        const float* const from = high > low ? left.line_of(b, phase, at / width) : nullptr;
        const i64 place = phase * positions() + at - begin;
        if (from == nullptr) {
          each(from, pitch, place, i64{0}, i64{0}, count);
        } else {
          each(from + ((column + low) * thin - windows.pad[1]) * pitch, thin * pitch, place, low, high - low, count);
        }
        at += count;
      }
  }

  TILE_INLINE void measure(const float* from, uint32_t& largest, float& squares) const {
    uint32_t most = 0;
    float sum = 0;
#pragma omp simd reduction(max : most) reduction(+ : sum)
    for (i64 i = 0; i < channels(); ++i) {
      const uint32_t bits = detail::magnitude_bits(from[i]);
      most = bits > most ? bits : most;
      sum += from[i] * from[i];
    }
    largest = most, squares = sum;
  }

  /// digits_needed() by a strip, whose first position is `at` of the bundle.
  TILE_NOINLINE int digits_of_strip(i64 index, i64 at, uint32_t most, const uint32_t* largest, const float* squares) const {
    const i64 rows = left.rows_of(index), apart = row_positions();
    const i64 run = left.windows.kernel[1] / (runs() / left.windows.kernel[0]);  // positions
    uint32_t of_row[Block::rows] = {};
    Magnitudes seen;
    left.each_run([&](i64 phase, i64 line, i64 column) {
      const i64 from = at + phase * positions() + line * line_positions() + column;
      for (i64 tap = 0; tap < run; ++tap)
        for (i64 i = 0; i < rows; ++i) {
          const uint32_t here = largest[from + tap + i * apart];
          of_row[i] = here > of_row[i] ? here : of_row[i];
        }
      const i64 reach = (rows - 1) * apart + run;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (i64 i = 0; i < reach; ++i) sum += squares[from + i];
      seen.squares += static_cast<double>(sum);
      seen.count += reach * channels();
    });
    uint32_t quietest = most;
    left.products(index * Block::rows, rows, [&](i64, i64 first, i64 count) {
      for (i64 i = first; i < first + count; ++i)
        if (of_row[i] > 0 && of_row[i] < quietest) quietest = of_row[i];
    });
    seen.largest = most;
    return digits_needed(seen, quietest, runs() * depth());
  }
};

}  // namespace tile
