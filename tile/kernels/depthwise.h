#pragma once

// Convolution with one filter a channel (groups = channels), channels first.
//
// A band of a channel is copied with its padding, and taken apart by the stride's phases: element (y, x) of the padded input
// goes to plane (y mod stride, x mod stride) at (y / stride, x / stride). Then every kernel position reads, for neighbouring
// outputs, neighbouring elements of one plane, whatever stride, dilation or padding; the sums run over whole bands in
// vectors without edges. The last few columns of each row are computed for nothing.

#include <cstdint>
#include <type_traits>

#include "tile/exec/args.h"
#include "tile/exec/simd.h"
#include "tile/kernels/operands.h"

namespace tile {

/// Shapes of a depthwise convolution over up to three spatial dimensions (depth, height, width); missing leading ones have
/// the default extent 1.
struct DepthwiseShape {
  i64 images = 1, channels = 1;  ///< `channels` of the output
  i64 filters = 1;               ///< output channels an input channel has: channel c reads input channel c / filters
  i64 input[3] = {1, 1, 1}, output[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};
  i64 stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1}, pad[3] = {0, 0, 0};  ///< pad: before the first element
};

namespace detail {

/// Few elements, in pieces of constant size: a call of memcpy or memset costs more than they do.
template <class T>
TILE_INLINE void copy_few(T* to, const T* from, i64 count) {
  for (; count >= 16; count -= 16, to += 16, from += 16) __builtin_memcpy(to, from, 16 * sizeof(T));
  TILE_UNROLL
  for (int piece = 8; piece > 0; piece /= 2) {
    if ((count & piece) == 0) continue;
    __builtin_memcpy(to, from, static_cast<size_t>(piece) * sizeof(T));
    to += piece;
    from += piece;
  }
}
template <class T>
TILE_INLINE void clear_few(T* to, i64 count) {
  for (; count >= 16; count -= 16, to += 16) __builtin_memset(to, 0, 16 * sizeof(T));
  TILE_UNROLL
  for (int piece = 8; piece > 0; piece /= 2) {
    if ((count & piece) == 0) continue;
    __builtin_memset(to, 0, static_cast<size_t>(piece) * sizeof(T));
    to += piece;
  }
}

template <class Acc, class X, class W, class Epilogue>
class Depthwise {
  using S = typename std::conditional_t<std::is_integral_v<Acc>, std::make_unsigned<Acc>, std::type_identity<Acc>>::type;
  static constexpr i64 step = 4 * lanes<S>;
  static constexpr i64 band_bytes = 24 << 10;

 public:
  Depthwise(const DepthwiseShape& shape, const X* x, const W* weights, const Epilogue& epilogue, int32_t x_zero, int32_t w_zero)
      : s_(shape), x_(x), weights_(weights), epilogue_(epilogue), x_zero_(x_zero), w_zero_(w_zero) {
    const i64 reach_y = (s_.kernel[1] - 1) * s_.dilation[1], reach_x = (s_.kernel[2] - 1) * s_.dilation[2];
    pitch_ = s_.output[2] + reach_x / s_.stride[2];
    const i64 row_bytes = pitch_ * static_cast<i64>(sizeof(S)) * s_.stride[1] * s_.stride[2] * s_.kernel[0];
    band_ = band_bytes / row_bytes - reach_y / s_.stride[1];
    if (band_ < 4) band_ = 4;
    if (band_ > s_.output[1]) band_ = s_.output[1];
    plane_rows_ = band_ + reach_y / s_.stride[1];
    plane_ = plane_rows_ * pitch_;
    bands_ = (s_.output[1] + band_ - 1) / band_;
    taps_ = s_.kernel[0] * s_.kernel[1] * s_.kernel[2];
  }

  void run(Team& team) const {
    const i64 planes = s_.kernel[0] * s_.stride[1] * s_.stride[2];
    const i64 copied = planes * plane_ + step, sums = band_ * pitch_ + step;
    const auto bytes = static_cast<size_t>((copied + sums + taps_) * static_cast<i64>(sizeof(S)) + 64 + taps_ * static_cast<i64>(sizeof(i64)));
    const i64 pieces = s_.output[0] * bands_;
    team.for_each(s_.images * s_.channels * pieces, [&](i64 index, int worker) {
      char* memory = static_cast<char*>(team.scratch(team.pool, worker, bytes));
      i64* offsets = reinterpret_cast<i64*>(memory);
      S* buffer = reinterpret_cast<S*>(memory + (taps_ * static_cast<i64>(sizeof(i64)) + 63) / 64 * 64);
      const i64 channel = index / pieces % s_.channels, image = index / pieces / s_.channels;
      band(image, channel, index % pieces / bands_, index % bands_ * band_, buffer, buffer + copied, offsets, buffer + copied + sums);
    });
  }

 private:
  /// Output rows [y0, y0 + band) at depth z.
  void band(i64 image, i64 channel, i64 z, i64 y0, S* planes, S* sums, i64* offsets, S* factors) const {
    const i64 rows = s_.output[1] - y0 < band_ ? s_.output[1] - y0 : band_;
    const i64 in_channels = s_.channels / s_.filters;
    const X* x = x_ + (image * in_channels + channel / s_.filters) * s_.input[0] * s_.input[1] * s_.input[2];
    const W* w = weights_ + channel * taps_;
    const i64 planes_a_depth = s_.stride[1] * s_.stride[2];
    i64 used = 0;
    for (i64 kz = 0; kz < s_.kernel[0]; ++kz) {
      const i64 from = z * s_.stride[0] - s_.pad[0] + kz * s_.dilation[0];
      if (from < 0 || from >= s_.input[0]) continue;
      S* depth_planes = planes + kz * planes_a_depth * plane_;
      copy(x + from * s_.input[1] * s_.input[2], y0, depth_planes);
      for (i64 ky = 0; ky < s_.kernel[1]; ++ky) {
        for (i64 kx = 0; kx < s_.kernel[2]; ++kx) {
          const i64 y = ky * s_.dilation[1], xx = kx * s_.dilation[2];
          const i64 phase = y % s_.stride[1] * s_.stride[2] + xx % s_.stride[2];
          offsets[used] = kz * planes_a_depth * plane_ + phase * plane_ + y / s_.stride[1] * pitch_ + xx / s_.stride[2];
          factors[used++] = panel_value<S>(w[(kz * s_.kernel[1] + ky) * s_.kernel[2] + kx], w_zero_);
        }
      }
    }
    const i64 count = (rows - 1) * pitch_ + s_.output[2];
    for (i64 q = 0; q < count; q += step) {
      vec<S> sum[4] = {};
      for (i64 t = 0; t < used; ++t) {
        const S* from = planes + offsets[t] + q;
        TILE_UNROLL
        for (int v = 0; v < 4; ++v) sum[v] += factors[t] * load(from + v * lanes<S>);
      }
      TILE_UNROLL
      for (int v = 0; v < 4; ++v) store(sums + q + v * lanes<S>, sum[v]);
    }
    // The planes have been read: the sums without the columns computed for nothing go there, as one row.
    const i64 width = s_.output[2];
    if (pitch_ > width) {
      for (i64 r = 0; r < rows; ++r) copy_few(planes + r * width, sums + r * pitch_, width);
      sums = planes;
    }
    epilogue_(image, channel, (z * s_.output[1] + y0) * width, i64{1}, rows * width, reinterpret_cast<const Acc*>(sums), rows * width);
  }

  /// The padded rows that the band reads, by phases.
  void copy(const X* x, i64 y0, S* planes) const {
    const i64 sy = s_.stride[1], sx = s_.stride[2];
    for (i64 phase_y = 0; phase_y < sy; ++phase_y) {
      for (i64 r = 0; r < plane_rows_; ++r) {
        const i64 y = (y0 + r) * sy + phase_y - s_.pad[1];
        for (i64 phase_x = 0; phase_x < sx; ++phase_x) {
          S* to = planes + (phase_y * sx + phase_x) * plane_ + r * pitch_;
          const i64 first = phase_x - s_.pad[2];  // input column under to[0]; to[i] is column first + i · sx
          i64 low = first >= 0 ? 0 : (-first + sx - 1) / sx;
          i64 high = first >= s_.input[2] ? 0 : (s_.input[2] - first + sx - 1) / sx;
          if (y < 0 || y >= s_.input[1]) low = high = 0;
          if (high > pitch_) high = pitch_;
          if (low > high) low = high;
          const X* from = x + y * s_.input[2] + first;
          clear_few(to, low);
          if (sx == 1) {
            copy_row<1>(to + low, from + low, high - low);
          } else if (sx == 2) {
            copy_row<2>(to + low, from + low * 2, high - low);
          } else {
            for (i64 i = low; i < high; ++i) to[i] = panel_value<S>(from[i * sx], x_zero_);
          }
          clear_few(to + high, pitch_ - high);
        }
      }
    }
  }

  template <int step>
  void copy_row(S* to, const X* from, i64 count) const {
    if constexpr (step == 1 && std::is_same_v<S, X>) return copy_few(to, from, count);
#pragma omp simd
    for (i64 i = 0; i < count; ++i) to[i] = panel_value<S>(from[i * step], x_zero_);
  }

  const DepthwiseShape s_;
  const X* x_;
  const W* weights_;
  const Epilogue& epilogue_;
  const int32_t x_zero_, w_zero_;
  i64 pitch_, band_, plane_rows_, plane_, bands_, taps_;
};

}  // namespace detail

/// out[image, c, position] = Σ weights[c, kernel position] · x[image, c / filters, position · stride - pad + kernel position
/// · dilation], zero outside the input. x is [images, channels / filters, input…], weights [channels, kernel…]; zero points
/// are subtracted from 8-bit integers. Sums go to contract()'s kind of epilogue, some rows of the output at a time, as one:
///   epilogue(image, channel, first position (flattened), rows = 1, columns, const Acc* sums, ld)
template <class Acc, class X, class W, class Epilogue>
void depthwise(const DepthwiseShape& shape, const X* x, const W* weights, const Epilogue& epilogue, Team& team, int32_t x_zero = 0, int32_t weight_zero = 0) {
  if (shape.images <= 0 || shape.channels <= 0) return;
  for (i64 extent : shape.output) {
    if (extent <= 0) return;
  }
  detail::Depthwise<Acc, X, W, Epilogue>(shape, x, weights, epilogue, x_zero, weight_zero).run(team);
}

}  // namespace tile
