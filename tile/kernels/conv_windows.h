#pragma once

// Convolution as a matrix product: the input seen through its windows, without a copy of the input.

#include "tile/kernels/operands.h"

namespace tile {

/// The windows of a convolution over a channels-first input, as an operand of contract(): the outer index is the output
/// position (od, oh, ow) flattened, k is (channel, kd, kh, kw) flattened, for the channels of one batch entry, whose first
/// lies at data[batch(b)] (the batch index may run over images and groups). Positions outside the input give zero.
///   element = x[channel][o · stride - pad + kernel index · dilation], for each spatial dimension
template <class T, int rank, class Batch = BatchStride>
struct ConvWindows {
  static_assert(rank >= 1 && rank <= 3, "convolutions have one to three spatial dimensions");
  using value_type = T;
  static constexpr bool within_byte = detail::is_byte<T>;

  const T* data;
  Batch batch{};
  i64 input[rank], output[rank], kernel[rank];
  i64 stride[rank], dilation[rank], pad[rank];  ///< pad: before the first element
  int32_t zero = 0;                             ///< subtracted from 8-bit integers; padding counts as this value

  template <int width, class P>
  TILE_NOINLINE void pack(P* panel, i64 b, i64 outer0, i64 count, i64 k0, i64 depth) const {
    Run runs[width];
    const int run_count = split(outer0, count, runs);
    i64 plane = 1, taps = 1;
    for (int d = 0; d < rank; ++d) plane *= input[d], taps *= kernel[d];
    const T* x = data + batch(b);
    // One kernel position after another: where its runs begin and which part of them lies inside is the same in all
    // channels.
    const i64 end = k0 + depth;
    for (i64 tap = 0; tap < taps; ++tap) {
      i64 channel = k0 > tap ? (k0 - tap + taps - 1) / taps : 0;
      if (channel * taps + tap >= end) continue;
      place(tap, runs, run_count);
      const T* from = x + channel * plane;
      P* to = panel + (channel * taps + tap - k0) * width;
      const i64 channels = (end - tap - 1) / taps - channel + 1;
      if (run_count == 1 && count == width && runs[0].low == 0 && runs[0].high == width && stride[rank - 1] == 1) {
        const T* line = from + runs[0].start;
        for (i64 c = 0; c < channels; ++c, line += plane, to += taps * width) {
#pragma omp simd
          for (int i = 0; i < width; ++i) to[i] = detail::panel_value<P>(line[i], zero);
        }
      } else if (stride[rank - 1] == 1) {
        copy<width, true>(to, from, runs, run_count, channels, plane, taps * width, count);
      } else {
        copy<width, false>(to, from, runs, run_count, channels, plane, taps * width, count);
      }
    }
  }

 private:
  /// Neighbouring columns of a panel that lie in one row of the output, and where one kernel position puts them.
  struct Run {
    i64 position[rank];  ///< of the first column in the output
    i64 begin, length;   ///< columns of the panel
    i64 start;           ///< element of the channel's plane under the first column; only [low, high) lies inside
    i64 low, high;
  };

  int split(i64 outer0, i64 count, Run* runs) const {
    i64 at[rank];
    for (int d = rank - 1; d >= 0; --d) at[d] = outer0 % output[d], outer0 /= output[d];
    int run_count = 0;
    for (i64 column = 0; column < count;) {
      Run& run = runs[run_count++];
      for (int d = 0; d < rank; ++d) run.position[d] = at[d];
      run.begin = column;
      const i64 left = output[rank - 1] - at[rank - 1];
      run.length = left < count - column ? left : count - column;
      column += run.length;
      at[rank - 1] = 0;
      for (int d = rank - 2; d >= 0; --d) {
        if (++at[d] < output[d]) break;
        at[d] = 0;
      }
    }
    return run_count;
  }

  void place(i64 tap, Run* runs, int run_count) const {
    i64 offset[rank];  // of the kernel position from the output position · stride
    for (int d = rank - 1; d >= 0; --d) offset[d] = tap % kernel[d] * dilation[d] - pad[d], tap /= kernel[d];
    const i64 step = stride[rank - 1], size = input[rank - 1];
    for (int r = 0; r < run_count; ++r) {
      Run& run = runs[r];
      i64 start = 0;
      bool inside = true;
      for (int d = 0; d < rank - 1; ++d) {
        const i64 p = run.position[d] * stride[d] + offset[d];
        inside = inside && p >= 0 && p < input[d];
        start = start * input[d] + p;
      }
      const i64 first = run.position[rank - 1] * step + offset[rank - 1];
      run.start = start * size + first;
      // Columns i with 0 ≤ first + i · step < size.
      i64 low = first >= 0 ? 0 : (-first + step - 1) / step;
      i64 high = first >= size ? 0 : (size - first + step - 1) / step;
      if (low > run.length) low = run.length;
      if (high > run.length) high = run.length;
      if (!inside || high < low) low = high = 0;
      run.low = low;
      run.high = high;
    }
  }

  template <int width, bool dense, class P>
  void copy(P* to, const T* from, const Run* runs, int run_count, i64 channels, i64 plane, i64 to_step, i64 count) const {
    const i64 step = dense ? 1 : stride[rank - 1];
    for (int r = 0; r < run_count; ++r) {
      const Run& run = runs[r];
      const T* line = from + run.start;
      P* row = to + run.begin;
      for (i64 c = 0; c < channels; ++c, line += plane, row += to_step) {
        for (i64 i = 0; i < run.low; ++i) row[i] = P{};
        for (i64 i = run.low; i < run.high; ++i) row[i] = detail::panel_value<P>(line[i * step], zero);
        for (i64 i = run.high; i < run.length; ++i) row[i] = P{};
      }
    }
    if (count == width) return;
    for (i64 c = 0; c < channels; ++c) detail::zero_rest<width>(to + c * to_step, count);
  }
};

}  // namespace tile
