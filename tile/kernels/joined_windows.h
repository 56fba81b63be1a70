#pragma once

// Windows of several lines of results in one strip, for blocks whose rows cost the same whether they are used or not: tiles of sixteen rows would
// have seven, where a line has seven.

#include "tile/kernels/window_rows.h"

namespace tile {

/// The windows of a convolution of planes, without strides, as WindowRows has them. Rows run through the padded lines one after another: a line of results,
/// then the few windows that begin in one line and end in the next, which nobody wants: fewer than `strip_rows`. A strip is any `strip_rows` of them, read
/// from a copy.
template <class T, class P, int strip_rows, i64 step, class Batch = BatchStride>
struct JoinedWindows {
  WindowRows<T, P, 2, strip_rows, step, Batch> windows;

  i64 strips() const { return (all_rows() + strip_rows - 1) / strip_rows; }
  i64 runs() const { return windows.runs(); }
  i64 depth() const { return windows.depth(); }
  i64 scratch() const { return copy_elements() + runs() * static_cast<i64>((sizeof(i64) + sizeof(P) - 1) / sizeof(P)); }
  i64 span() const { return copy_elements(); }
  i64 strip_bytes() const { return windows.strip_bytes(); }

  void begin(P* scratch) const {
    i64* const to = offsets(scratch);
    const i64 taps = runs() / windows.kernel[0];
    for (i64 line = 0; line < windows.kernel[0]; ++line)
      for (i64 tap = 0; tap < taps; ++tap) to[line * taps + tap] = (line * windows.dilation[0] * line_rows() + tap * windows.dilation[1]) * step;
  }

  Strip<P> strip(i64 b, i64 index, P* scratch) const {
    const i64 m0 = index * strip_rows, first = m0 / line_rows();
    i64 rows = all_rows() - m0 < strip_rows ? all_rows() - m0 : strip_rows;
    while ((m0 + rows - 1) % line_rows() >= windows.output[1]) --rows;  // a last window would end behind the copy
    const i64 lines = (m0 + rows - 1) / line_rows() - first + reach();
    const T* const x = windows.data + windows.batch(b);
    for (i64 i = 0; i < lines; ++i) {
      const i64 line = first + i - windows.pad[0];
      P* const to = scratch + i * line_rows() * step;
      if (line >= 0 && line < windows.input[0]) {
        windows.copy_line(x + line * windows.pitch[0], -windows.pad[1], line_rows(), to);
      } else {
        windows.clear(to, line_rows() * step);
      }
    }
    return {scratch + m0 % line_rows() * step, offsets(scratch), m0, rows};
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

 private:
  /// Of a padded line, which are its positions.
  i64 line_rows() const { return windows.output[1] + (windows.kernel[1] - 1) * windows.dilation[1]; }
  i64 all_rows() const { return windows.output[0] * line_rows() - (line_rows() - windows.output[1]); }
  /// Lines that a window covers.
  i64 reach() const { return (windows.kernel[0] - 1) * windows.dilation[0] + 1; }
  i64 copy_elements() const { return (((strip_rows - 2) / line_rows() + 1 + reach()) * line_rows() * step + 15) / 16 * 16; }
  i64* offsets(P* scratch) const { return reinterpret_cast<i64*>(scratch + copy_elements()); }
};

}  // namespace tile
