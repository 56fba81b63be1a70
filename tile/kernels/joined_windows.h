#pragma once

// Windows of several lines of results in one strip, for blocks whose rows cost the same whether they are used or not: tiles of sixteen rows would
// have seven, where a line has seven.

#include "tile/kernels/window_rows.h"

namespace tile {

/// The windows of a convolution of planes as WindowRows has them. Rows run through the padded lines one after another: a line of results, then the few
/// windows that begin in one line and end in the next, which nobody wants: fewer than `strip_rows`. Where windows go down by several lines, those of each
/// remainder follow each other: a phase of the padded image, in which windows go down by one. A strip is any `strip_rows` rows, read from a copy.
template <class T, class P, int strip_rows, i64 step, class Batch = BatchStride>
struct JoinedWindows {
  WindowRows<T, P, 2, strip_rows, step, Batch> windows;

  i64 strips() const { return (all_rows() + strip_rows - 1) / strip_rows; }
  i64 runs() const { return windows.runs(); }
  i64 depth() const { return windows.depth(); }
  i64 scratch() const { return span() + runs() * static_cast<i64>((sizeof(i64) + sizeof(P) - 1) / sizeof(P)); }
  i64 span() const { return copy_elements(strip_rows); }
  i64 strip_bytes() const { return windows.strip_bytes(); }

  void begin(P* scratch) const { write_offsets(reached_lines(strip_rows), offsets(scratch)); }
  Strip<P> strip(i64 b, i64 index, P* scratch) const {
    const i64 m0 = index * strip_rows, rows = rows_of(index);
    return {copy(b, m0, rows, reached_lines(strip_rows), scratch), offsets(scratch), m0, rows};
  }

  /// each(row of the product, rows before it, so many) for rows [first, first + count) of the strips that are rows of the product.
  template <class F>
  TILE_INLINE void products(i64 first, i64 count, F&& each) const {
    for (i64 row = first; row < first + count;) {
      const i64 line = row / line_rows(), column = row % line_rows(), end = (line + 1) * line_rows() < first + count ? (line + 1) * line_rows() : first + count;
      const i64 used = (end - row < windows.output[1] - column) ? end - row : windows.output[1] - column;
      if (used > 0) each(line * windows.output[1] + column, row - first, used);
      row = end;
    }
  }

  /// Rows of a padded line: as many windows begin in it, whether they are wanted or not.
  i64 line_rows() const { return windows.output[1] + (windows.kernel[1] - 1) * windows.dilation[1] / windows.stride[1]; }
  i64 all_rows() const { return windows.output[0] * line_rows() - (line_rows() - windows.output[1]); }
  /// Rows of strip `index`: a last window would end behind the copy.
  i64 rows_of(i64 index) const {
    const i64 m0 = index * strip_rows;
    i64 rows = all_rows() - m0 < strip_rows ? all_rows() - m0 : strip_rows;
    while ((m0 + rows - 1) % line_rows() >= windows.output[1]) --rows;
    return rows;
  }

  /// Phases that windows reach, lines of a phase that they reach below their first.
  i64 phases() const { return windows.kernel[0] == 1 || windows.dilation[0] % windows.stride[0] == 0 ? 1 : windows.stride[0]; }
  i64 lines_below() const { return (windows.kernel[0] - 1) * windows.dilation[0] / windows.stride[0]; }
  /// each(phase, line of it, position) for a window's runs, from where the window begins.
  template <class F>
  TILE_INLINE void each_run(F&& each) const {
    const i64 taps = runs() / windows.kernel[0];
    for (i64 line = 0; line < windows.kernel[0]; ++line)
      for (i64 tap = 0; tap < taps; ++tap)
        each(line * windows.dilation[0] % windows.stride[0], line * windows.dilation[0] / windows.stride[0], tap * windows.dilation[1]);
  }
  /// The input's line that is `line` of a phase of the padded image; null: none.
  const T* line_of(i64 b, i64 phase, i64 line) const {
    const i64 of_input = line * windows.stride[0] + phase - windows.pad[0];
    return of_input >= 0 && of_input < windows.input[0] ? windows.data + windows.batch(b) + of_input * windows.pitch[0] : nullptr;
  }

  i64 line_elements() const { return line_rows() * step; }
  /// Lines of a phase that so many rows may reach, and their elements in a copy of all phases.
  i64 reached_lines(i64 rows) const { return (rows - 2 + line_rows()) / line_rows() + 1 + lines_below(); }
  i64 copy_elements(i64 rows) const { return (phases() * reached_lines(rows) * line_elements() + 15) / 16 * 16; }
  /// Where runs lie in a copy of so many lines of each phase.
  void write_offsets(i64 lines, i64* to) const {
    each_run([&](i64 phase, i64 line, i64 column) { *to++ = (phase * lines + line) * line_elements() + column * windows.spot(); });
  }
  /// Copies what rows [first, first + rows) reach, `lines` lines of each phase apart from the next one's, and tells where the first row lies.
  const P* copy(i64 b, i64 first, i64 rows, i64 lines, P* to) const {
    const i64 line0 = first / line_rows(), used = (first + rows - 1) / line_rows() - line0 + 1 + lines_below();
    for (i64 phase = 0; phase < phases(); ++phase)
      for (i64 i = 0; i < used; ++i) {
        P* const at = to + (phase * lines + i) * line_elements();
        if (const T* const from = line_of(b, phase, line0 + i)) {
          windows.copy_line(from, -windows.pad[1], line_elements() / windows.spot(), at);
        } else {
          windows.clear(at, line_elements());
        }
      }
    return to + first % line_rows() * step;
  }

 private:
  i64* offsets(P* scratch) const { return reinterpret_cast<i64*>(scratch + copy_elements(strip_rows)); }
};

/// The same windows, whose lines are copied once a bundle of strips.
template <class Left, class P, int strip_rows, i64 step>
struct BundledWindows {
  Left left;

  i64 strips() const { return left.strips(); }
  i64 runs() const { return left.runs(); }
  i64 depth() const { return left.depth(); }
  Bundles bundles() const {
    constexpr i64 most_bytes = 1 << 18;
    return Bundles::of_windows(strips(), strip_rows, left.reached_lines(2) * left.line_rows(),
                               most_bytes / (left.phases() * step * static_cast<i64>(sizeof(P))));
  }
  i64 scratch() const { return place() + left.copy_elements(rows()); }
  i64 strip_bytes() const { return left.copy_elements(rows()) * static_cast<i64>(sizeof(P)); }
  void begin(P* scratch) const { left.write_offsets(left.reached_lines(rows()), reinterpret_cast<i64*>(scratch)); }
  template <class F>
  TILE_INLINE void products(i64 first, i64 count, F&& each) const {
    left.products(first, count, each);
  }

  void prepare(i64 b, i64 bundle, P* scratch) const {
    const i64 first = first_row(bundle), end = first_row(bundle + 1), all = left.all_rows();
    left.copy(b, first, (end < all ? end : all) - first, left.reached_lines(rows()), scratch + place());
  }
  Strip<P> strip(i64, i64 index, P* scratch) const {
    const i64 m0 = index * strip_rows, first = first_row(bundles().of(index));
    const i64 row = m0 - first / left.line_rows() * left.line_rows();  // of the copied lines
    return {scratch + place() + row * step, reinterpret_cast<const i64*>(scratch), m0, left.rows_of(index)};
  }

 private:
  i64 first_row(i64 bundle) const { return bundles().first(bundle) * strip_rows; }
  i64 rows() const { return bundles().together() * strip_rows; }
  /// Of the copy, behind the offsets.
  i64 place() const { return (runs() * static_cast<i64>((sizeof(i64) + sizeof(P) - 1) / sizeof(P)) + 63) / 64 * 64; }
};

}  // namespace tile
