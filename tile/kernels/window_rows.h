#pragma once

// Convolution as a product of rows: the windows of an input whose channels lie side by side, without a copy of the input.

#include <utility>

#include "tile/kernels/contract_rows.h"

namespace tile {

namespace detail {

/// Lanes of `so_far` with those of channel `c` and later ones set: vector `o` of `count` vectors of positions as positions of `count` channels.
template <int count, int o, int c, class V, size_t... lane>
TILE_INLINE V woven(V so_far, const V (&channels)[count], std::index_sequence<lane...> all) {
  if constexpr (c == count) {
    return so_far;
  } else {
    constexpr int width = sizeof...(lane);
    const V with = __builtin_shufflevector(
        so_far, channels[c],
        ((o * width + static_cast<int>(lane)) % count == c ? width + (o * width + static_cast<int>(lane)) / count : static_cast<int>(lane))...);
    return woven<count, o, c + 1>(with, channels, all);
  }
}

template <int count, int n, class P, size_t... o>
TILE_INLINE void weave_vectors(const vec<P, n> (&channels)[count], P* to, std::index_sequence<o...>) {
  (store<P, n>(to + o * n, woven<count, o, 0>(channels[0], channels, std::make_index_sequence<n>())), ...);
}

/// Positions that weave() takes at once: pieces of lines, which are short, fill few lanes of bytes.
template <class P>
inline constexpr int woven_lanes = lanes<P> < 16 ? lanes<P> : 16;

/// to[i · count + c] = from[c · step + i] for `positions` positions i, at least woven_lanes; short floats as floats where P is float.
template <int count, class T, class P>
TILE_INLINE void weave(const T* from, i64 step, i64 positions, P* to) {
  constexpr int n = woven_lanes<P>;
  for (i64 i = 0; i < positions; i += n) {
    const i64 at = i + n <= positions ? i : positions - n;
    vec<P, n> channels[count];
    TILE_UNROLL
    for (int c = 0; c < count; ++c) {
      if constexpr (std::is_same_v<T, P>) {
        channels[c] = load<P, n>(from + c * step + at);
      } else {
        channels[c] = load_wide<P>(from + c * step + at);
      }
    }
    weave_vectors<count, n>(channels, to + at * count, std::make_index_sequence<count>());
  }
}

}  // namespace detail

/// The windows of a convolution as the left operand of contract_rows(): row m is the output position (od, oh, ow)
/// flattened, k is (kd, kh, kw, channel) flattened, for one batch entry, whose first channel of the first position lies at
/// data[batch(b)]. Positions outside the input give zero, or `zero`.
///   element = x[o · stride - pad + kernel index · dilation][channel], for each spatial dimension
/// A strip is a piece of one row of the output. `step`: elements between the first channels of neighbouring rows of a
/// strip, a multiple of stride[rank - 1] by the distance of neighbouring positions.
template <class T, class P, int rank, int strip_rows, i64 step, class Batch = BatchStride>
struct WindowRows {
  static_assert(rank >= 1 && rank <= 3, "convolutions have one to three spatial dimensions");

  const T* data;
  Batch batch{};
  i64 channels;
  i64 channel_stride;  ///< elements between neighbouring channels; 1: windows inside the input are read in place
  i64 pitch[rank];     ///< elements between neighbouring positions
  i64 input[rank], output[rank], kernel[rank];
  i64 stride[rank], dilation[rank], pad[rank];  ///< pad: before the first element
  i64 first_line = 0, lines = -1;               ///< rows of the output that are computed; -1: all of them
  int32_t zero = 0;                             ///< of 8-bit integers: what positions outside give

  i64 strips() const {
    i64 all = 1;
    for (int d = 0; d < rank - 1; ++d) all *= output[d];
    return (lines < 0 ? all : lines) * strips_a_line();
  }
  /// Kernel positions side by side make one run where no hole parts them.
  i64 runs() const { return lines_a_window() * (one_run_a_line() ? 1 : kernel[rank - 1]); }
  i64 depth() const { return one_run_a_line() ? kernel[rank - 1] * channels : channels; }
  i64 scratch() const { return copy_elements() + 2 * offset_elements(); }

  /// Elements from the first of a strip's lines to their last ones, added up.
  i64 span() const { return copy_elements(); }
  i64 strip_bytes() const { return strip_rows * stride[rank - 1] * channels * static_cast<i64>(sizeof(T)); }

  /// Writes where the runs lie from the first: in the input, and in a copy.
  void begin(P* scratch) const {
    i64* const inside = offsets(scratch, 0);
    i64* const copied = offsets(scratch, 1);
    const i64 taps = one_run_a_line() ? 1 : kernel[rank - 1];
    for (i64 line = 0; line < lines_a_window(); ++line) {
      i64 at = 0, rest = line;
      for (int d = rank - 2; d >= 0; --d) at += rest % kernel[d] * dilation[d] * pitch[d], rest /= kernel[d];
      for (i64 tap = 0; tap < taps; ++tap) {
        inside[line * taps + tap] = at + tap * dilation[rank - 1] * pitch[rank - 1];
        copied[line * taps + tap] = line * line_elements() + tap * dilation[rank - 1] * spot();
      }
    }
  }

  Strip<P> strip(i64 b, i64 index, P* scratch) const {
    constexpr int last = rank - 1;
    const i64 column = index % strips_a_line() * strip_rows, line = first_line + index / strips_a_line();
    const i64 rows = output[last] - column < strip_rows ? output[last] - column : strip_rows;
    const i64 m0 = line * output[last] + column;
    i64 origin[rank];  // of the strip's first window in the input
    i64 rest = line;
    for (int d = last - 1; d >= 0; --d) origin[d] = rest % output[d] * stride[d] - pad[d], rest /= output[d];
    origin[last] = column * stride[last] - pad[last];

    const T* x = data + batch(b);
    bool inside = std::is_same_v<T, P> && channel_stride == 1 && pitch[last] == spot() && origin[last] >= 0 && origin[last] + width(rows) <= input[last];
    i64 first = 0;
    for (int d = 0; d < rank; ++d) {
      first += origin[d] * pitch[d];
      if (d < last) inside = inside && origin[d] >= 0 && origin[d] + (kernel[d] - 1) * dilation[d] < input[d];
    }
    if constexpr (std::is_same_v<T, P>) {
      if (inside) return {x + first, offsets(scratch, 0), m0, rows};
    }
    copy(x, origin, scratch);
    return {scratch, offsets(scratch, 1), m0, rows};
  }

  /// Elements between neighbouring positions of a copy, as in the input where that is read in place.
  i64 spot() const { return step / stride[rank - 1]; }

  /// `positions` positions of a line of the input, of which `line` is the first, from `first` on; those outside give zero.
  void copy_line(const T* line, i64 first, i64 positions, P* to) const {
    constexpr int last = rank - 1;
    const i64 low = first < 0 ? least(-first, positions) : 0, high = most(least(input[last] - first, positions), low), inside = high - low;
    const T* const from = line + (first + low) * pitch[last];
    clear(to, low * spot());
    P* const at = to + low * spot();
    if (channel_stride == 1 && pitch[last] == channels && spot() == channels) {
      copy_left(from, inside * channels, zero, at);
    } else if (channel_stride == 1) {
      for (i64 i = 0; i < inside; ++i) copy_left(from + i * pitch[last], channels, zero, at + i * spot());
    } else if (weaves && channels == 3 && spot() == 3 && pitch[last] == 1 && inside >= detail::woven_lanes<P>) {
      // A picture's planes.
      if constexpr (weaves && is_short_float<P>) {
        detail::weave<3>(&from->bits, channel_stride, inside, &at->bits);
      } else if constexpr (weaves) {
        detail::weave<3>(from, channel_stride, inside, at);
      }
    } else {
      for (i64 c = 0; c < channels; ++c) {
        for (i64 i = 0; i < inside; ++i) at[i * spot() + c] = left_value<P>(from[i * pitch[last] + c * channel_stride], zero);
      }
    }
    clear(to + high * spot(), (positions - high) * spot());
  }
  void clear(P* to, i64 count) const {
    const P nothing = static_cast<P>(left_zero<P, T>(zero));
    for (i64 i = 0; i < count; ++i) to[i] = nothing;
  }

 private:
  /// Elements that vectors have lanes of.
  static constexpr bool weaves = std::is_same_v<T, P> ? std::is_arithmetic_v<P> || is_short_float<P> : is_short_float<T> && std::is_same_v<P, float>;

  i64 strips_a_line() const { return (output[rank - 1] + strip_rows - 1) / strip_rows; }
  bool one_run_a_line() const { return dilation[rank - 1] == 1 && spot() == channels; }
  i64 lines_a_window() const {
    i64 all = 1;
    for (int d = 0; d < rank - 1; ++d) all *= kernel[d];
    return all;
  }
  /// Positions of a line of the input that a strip reads, and their elements in a copy.
  i64 width(i64 rows = strip_rows) const { return (rows - 1) * stride[rank - 1] + (kernel[rank - 1] - 1) * dilation[rank - 1] + 1; }
  i64 line_elements() const { return width() * spot(); }
  i64 copy_elements() const { return (lines_a_window() * line_elements() + 15) / 16 * 16; }
  i64 offset_elements() const { return runs() * static_cast<i64>((sizeof(i64) + sizeof(P) - 1) / sizeof(P)); }
  i64* offsets(P* scratch, int which) const { return reinterpret_cast<i64*>(scratch + copy_elements() + which * offset_elements()); }

  /// The lines under the strip's windows, with zeros where they leave the input.
  void copy(const T* x, const i64* origin, P* to) const {
    constexpr int last = rank - 1;
    for (i64 line = 0; line < lines_a_window(); ++line, to += line_elements()) {
      const T* from = x;
      bool inside = true;
      i64 rest = line;
      for (int d = last - 1; d >= 0; --d) {
        const i64 at = origin[d] + rest % kernel[d] * dilation[d];
        rest /= kernel[d];
        inside = inside && at >= 0 && at < input[d];
        from += at * pitch[d];
      }
      if (inside) {
        copy_line(from, origin[last], width(), to);
      } else {
        clear(to, line_elements());
      }
    }
  }

  static i64 least(i64 a, i64 b) { return a < b ? a : b; }
  static i64 most(i64 a, i64 b) { return a > b ? a : b; }
};

}  // namespace tile
