#pragma once

// Convolution with one filter a channel (groups = channels), channels last.
//
// Neighbouring channels fill the vectors. A strip of neighbouring output pixels times one or two vectors of channels keeps
// its sums in registers over all kernel positions; the input is read in place. Kernel rows outside of the input are skipped
// for a whole line of output. For common widths of the kernel ("known") a strip reads every input once a kernel row, skips
// the columns outside, and needs no edges; else the pixels whose windows stick out are summed one by one.
//
// What bounds it beyond multiply-adds: storing a vector takes a good half cycle from them, twice an output (here and in the
// epilogue). Prefetching rows ahead and giving the epilogue several lines at once were tried and gained nothing.

#include <cstdint>
#include <type_traits>

#include "tile/exec/args.h"
#include "tile/exec/simd.h"
#include "tile/kernels/operands.h"

namespace tile {

/// Shapes of a depthwise convolution over up to three spatial dimensions (depth, height, width); missing leading ones have
/// the default extent 1.
struct DepthwiseRowsShape {
  i64 images = 1, channels = 1;
  i64 input[3] = {1, 1, 1}, output[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};
  i64 stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1}, pad[3] = {0, 0, 0};  ///< pad: before the first element
};

namespace detail {

/// `n` stored values as a vector of S.
template <class S, int n, class X>
TILE_INLINE vec<S, n> load_values(const X* from) {
  if constexpr (std::is_same_v<S, X> || (std::is_integral_v<X> && sizeof(X) == sizeof(S))) {
    return load<S, n>(reinterpret_cast<const S*>(from));
  } else if constexpr ((is_byte<X> || is_short_float<X>)&&std::is_same_v<S, float> && n == lanes<float>) {
    return load_wide<float>(from);
  } else {
    alignas(sizeof(S) * n) S values[n];
#pragma omp simd
    for (int i = 0; i < n; ++i) values[i] = panel_value<S>(from[i], 0);
    return load<S, n>(values);
  }
}

/// Keeps compilers from computing all addresses of an unrolled loop ahead, for which there are not enough registers.
template <class T>
TILE_INLINE T* opaque(T* pointer) {
  asm("" : "+r"(pointer));
  return pointer;
}

template <class Acc, int rows, class X, class Epilogue>
class DepthwiseRows {
  using S = typename std::conditional_t<std::is_integral_v<Acc>, std::make_unsigned<Acc>, std::type_identity<Acc>>::type;
  static constexpr int width = lanes<S>;
  /// Vectors of channels in a full block: with the weights and an input, sums of 32 registers have room for two.
  static constexpr int block_vectors = vector_registers >= 32 ? 2 : 1;
  static constexpr i64 block = block_vectors * width;
  static constexpr i64 held = 32;  ///< pixels whose sums wait for the epilogue
  static constexpr i64 l1_bytes = 24 << 10, l2_bytes = 512 << 10;
  static constexpr i64 least_group = block * sizeof(X) > 128 ? block : i64{128 / sizeof(X)};  ///< channels: two cache lines
  static_assert(rows >= 1 && rows <= held, "a strip has 1 to 32 pixels");

  /// The positions [first, last) of one kernel dimension that are inside of the input for one output coordinate.
  struct Taps {
    i64 first, last;
  };

 public:
  TILE_INLINE DepthwiseRows(const DepthwiseRowsShape& shape, const X* x, const Acc* weights, const Epilogue& epilogue, int32_t zero)
      : s_(shape), x_(x), weights_(reinterpret_cast<const S*>(weights)), epilogue_(epilogue), zero_(static_cast<S>(zero)) {
    row_ = s_.input[2] * s_.channels;
    plane_ = s_.input[1] * row_;
    lines_ = s_.output[0] * s_.output[1];
    height_step_ = s_.dilation[1] * row_;
    depth_step_ = s_.dilation[0] * plane_;
    height_weights_ = s_.kernel[2] * s_.channels;
    depth_weights_ = s_.kernel[1] * height_weights_;
    // Output columns [low_, high_) see the whole kernel.
    const i64 reach = (s_.kernel[2] - 1) * s_.dilation[2], stride = s_.stride[2];
    low_ = least((s_.pad[2] + stride - 1) / stride, s_.output[2]);
    const i64 room = s_.input[2] + s_.pad[2] - reach - 1;
    high_ = room < 0 ? 0 : least(room / stride + 1, s_.output[2]);
    if (high_ < low_) high_ = low_;
    // Here, and inline, so that of shapes that are constants the compiler sees which of these nothing calls.
    const i64 beyond = (s_.output[2] - 1) * stride + reach - s_.pad[2] - (s_.input[2] - 1);
    const bool close = s_.dilation[2] == 1 && s_.pad[2] < s_.kernel[2] && beyond < s_.kernel[2];
    if (close && is(3, 1)) {
      use_known<3, 1>();
    } else if (close && is(3, 2)) {
      use_known<3, 2>();
    } else if (close && is(5, 1)) {
      use_known<5, 1>();
    } else if (close && is(5, 2)) {
      use_known<5, 2>();
    } else if (close && is(7, 1)) {
      use_known<7, 1>();
    } else {
      segment_[0] = &DepthwiseRows::template segment<1>;
      segment_[1] = &DepthwiseRows::template segment<block_vectors>;
    }
  }

  void run(Team& team) const {
    // Channels whose rows for some lines of output stay in L1, and lines whose input stays in L2.
    const i64 window = s_.kernel[0] * ((s_.kernel[1] - 1) * s_.dilation[1] + 1) + s_.stride[1];
    const i64 row_bytes = most(s_.input[2], 1) * static_cast<i64>(sizeof(X));
    const i64 group = most(l1_bytes / (row_bytes * window) / least_group * least_group, least_group);
    const i64 groups = (s_.channels - 1) / group + 1;
    i64 band = l2_bytes / (row_bytes * s_.channels * s_.stride[1] * s_.kernel[0]);
    if (team.size > 1) band = least(band, s_.images * lines_ * groups / (i64{4} * team.size));
    band = least(most(band, 1), lines_);
    const i64 bands = (lines_ - 1) / band + 1;
    team.for_each(s_.images * bands * groups, [&](i64 index, int) {
      const i64 c0 = index % groups * group, line0 = index / groups % bands * band, image = index / groups / bands;
      const i64 c1 = least(c0 + group, s_.channels), line1 = least(line0 + band, lines_);
      for (i64 line = line0; line < line1; ++line) channels(image, line, c0, c1);
    });
  }

 private:
  TILE_INLINE bool is(i64 kernel, i64 stride) const { return s_.kernel[2] == kernel && s_.stride[2] == stride; }
  template <int taps, int stride>
  TILE_INLINE void use_known() {
    segment_[0] = &DepthwiseRows::template known_segment<1, taps, stride>;
    segment_[1] = &DepthwiseRows::template known_segment<block_vectors, taps, stride>;
  }

  static TILE_INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }
  static TILE_INLINE i64 most(i64 a, i64 b) { return a > b ? a : b; }

  TILE_INLINE Taps inside(int d, i64 output) const {
    const i64 from = output * s_.stride[d] - s_.pad[d], step = s_.dilation[d];
    if (from >= 0 && from + (s_.kernel[d] - 1) * step < s_.input[d]) return {0, s_.kernel[d]};
    const i64 first = from >= 0 ? 0 : (-from + step - 1) / step;
    const i64 last = from >= s_.input[d] ? 0 : least((s_.input[d] - from - 1) / step + 1, s_.kernel[d]);
    return {first, last < first ? first : last};
  }

  /// What all pixels of a line of output share.
  struct Line {
    const X* x;  ///< the row of the first kernel position inside, at column 0 and channel 0
    const S* w;  ///< of that position's row
    i64 depths, heights;
  };
  /// Neighbouring pixels of a line, whose sums go to the epilogue together.
  struct Piece {
    Line line;
    i64 image, m0, pixel, count;
  };

  Line line_at(i64 image, i64 line) const {
    const i64 z = line / s_.output[1], y = line % s_.output[1];
    const Taps depth = inside(0, z), height = inside(1, y);
    if (depth.first == depth.last || height.first == height.last) return {x_, weights_, 0, 0};
    const i64 from_z = z * s_.stride[0] - s_.pad[0] + depth.first * s_.dilation[0];
    const i64 from_y = y * s_.stride[1] - s_.pad[1] + height.first * s_.dilation[1];
    return {x_ + (image * s_.input[0] + from_z) * plane_ + from_y * row_, weights_ + depth.first * depth_weights_ + height.first * height_weights_,
            depth.last - depth.first, height.last - height.first};
  }

  /// One line of output for the channels [c0, c1).
  TILE_NOINLINE void channels(i64 image, i64 line, i64 c0, i64 c1) const {
    Piece piece{line_at(image, line), image, line * s_.output[2], 0, 0};
    for (; piece.pixel < s_.output[2]; piece.pixel += piece.count) {
      piece.count = least(held, s_.output[2] - piece.pixel);
      blocks(piece, c0, c1);
    }
  }

  TILE_INLINE void blocks(const Piece& piece, i64 c, i64 c1) const {
    for (; c1 - c >= block; c += block) pixels<block_vectors>(piece, c, std::integral_constant<i64, block>{});
    if constexpr (block_vectors > 1) {
      for (; c1 - c >= width; c += width) pixels<1>(piece, c, std::integral_constant<i64, width>{});
    }
    if (c == c1) return;
    if (s_.channels >= width) return pixels<1>(piece, c, c1 - c);
    if constexpr (width >= 4) {
      for (; c1 - c >= width / 4; c += width / 4) narrow<width / 4>(piece, c);
    }
    for (; c < c1; ++c) narrow<1>(piece, c);
  }

  /// A block of channels. Of the last ones, which do not fill a vector, the vector begins at earlier channels.
  template <int vectors, class Columns>
  TILE_INLINE void pixels(const Piece& piece, i64 c, Columns columns) const {
    constexpr i64 ld = vectors * width;
    const i64 behind = ld - columns;
    alignas(64) S sums[held * ld];
    (this->*segment_[vectors - 1])(piece.line, c - behind, piece.pixel, piece.count, sums);
    epilogue_(piece.image, piece.m0 + piece.pixel, c, piece.count, columns, reinterpret_cast<const Acc*>(sums + behind), ld);
  }

  using Segment = void (DepthwiseRows::*)(const Line& at, i64 c, i64 pixel, i64 count, S* sums) const;

  /// The sums of some pixels of a line whose windows stick out by less than their width.
  template <int vectors, int taps, int stride>
  TILE_NOINLINE void known_segment(const Line& at, i64 c, i64 pixel, i64 count, S* sums) const {
    for (i64 i = 0; i < count;) {
      const i64 left = count - i, here = left >= 2 * rows ? rows : left > rows ? (left + 1) / 2 : left;
      strip_of<rows, vectors, taps, stride>(here, at, c, pixel + i, sums + i * vectors * width);
      i += here;
    }
  }
  template <int vectors>
  TILE_NOINLINE void segment(const Line& at, i64 c, i64 pixel, i64 count, S* sums) const {
    for (i64 i = 0; i < count;) {
      S* to = sums + i * vectors * width;
      if (pixel + i < low_ || pixel + i >= high_) {
        edge<vectors, width>(at, c, pixel + i, to);
        ++i;
        continue;
      }
      const i64 left = least(count - i, high_ - pixel - i), here = left >= 2 * rows ? rows : left > rows ? (left + 1) / 2 : left;
      strip_of<rows, vectors, 0, 0>(here, at, c, pixel + i, to);
      i += here;
    }
  }

  /// One vector of n channels, for tensors that have fewer than a whole vector.
  template <int n>
  TILE_NOINLINE void narrow(const Piece& piece, i64 c) const {
    alignas(64) S sums[held * n];
    for (i64 i = 0; i < piece.count; ++i) edge<1, n>(piece.line, c, piece.pixel + i, sums + i * n);
    epilogue_(piece.image, piece.m0 + piece.pixel, c, piece.count, i64{n}, reinterpret_cast<const Acc*>(sums), i64{n});
  }

  /// One pixel, over the kernel's columns that are inside.
  template <int vectors, int n>
  TILE_INLINE void edge(const Line& at, i64 c, i64 pixel, S* to) const {
    const Taps across = inside(2, pixel);
    const i64 step = s_.dilation[2] * s_.channels;
    const X* x = at.x + (pixel * s_.stride[2] - s_.pad[2]) * s_.channels + c;
    const S* w = at.w + c;
    vec<S, n> sum[vectors] = {};
    for (i64 z = 0; z < at.depths; ++z) {
      for (i64 y = 0; y < at.heights; ++y) {
        const i64 row = z * depth_step_ + y * height_step_;
        const S* factors = w + z * depth_weights_ + y * height_weights_;
        for (i64 t = across.first; t < across.last; ++t) {
          TILE_UNROLL
          for (int v = 0; v < vectors; ++v) {
            sum[v] += load<S, n>(factors + t * s_.channels + v * n) * values<n>(x + row + t * step + v * n);
          }
        }
      }
    }
    TILE_UNROLL
    for (int v = 0; v < vectors; ++v) store<S, n>(to + v * n, sum[v]);
  }

  template <int longest, int vectors, int taps, int stride>
  TILE_INLINE void strip_of(i64 count, const Line& at, i64 c, i64 pixel, S* to) const {
    if (count != longest) {
      if constexpr (longest > 1) strip_of<longest - 1, vectors, taps, stride>(count, at, c, pixel, to);
    } else if constexpr (taps > 0) {
      known_strip<longest, vectors, taps, stride>(at, c, pixel, to);
    } else {
      strip<longest, vectors>(at, c, pixel, to);
    }
  }

  /// Inputs less the zero point that bytes have.
  template <int n>
  TILE_INLINE vec<S, n> values(const X* from) const {
    if constexpr (is_byte<X>) {
      return load_values<S, n>(from) - zero_;
    } else {
      return load_values<S, n>(from);
    }
  }

  template <int count, int vectors>
  static TILE_INLINE void store_sums(S* to, const vec<S> (&sum)[count][vectors]) {
    TILE_UNROLL
    for (int i = 0; i < count; ++i) {
      TILE_UNROLL
      for (int v = 0; v < vectors; ++v) store(to + (i * vectors + v) * width, sum[i][v]);
    }
  }

  /// `count` pixels of a kernel `taps` wide: every input is loaded once for a row of the kernel.
  template <int count, int vectors, int taps, int stride>
  TILE_INLINE void known_strip(const Line& at, i64 c, i64 pixel, S* to) const {
    constexpr int inputs = (count - 1) * stride + taps;
    const i64 pitch = s_.channels, column = pixel * stride - s_.pad[2], low = -column, high = s_.input[2] - column;
    const X* x = at.x + column * pitch + c;
    const S* w = at.w + c;
    vec<S> sum[count][vectors] = {};
    for (i64 z = 0; z < at.depths; ++z, x += depth_step_, w += depth_weights_) {
      const X* line = x;
      const S* row = w;
      for (i64 y = 0; y < at.heights; ++y, line += height_step_, row += height_weights_) {
        vec<S> factor[taps][vectors];
        TILE_UNROLL
        for (int t = 0; t < taps; ++t) {
          TILE_UNROLL
          for (int v = 0; v < vectors; ++v) factor[t][v] = load(row + t * pitch + v * width);
        }
        const X* from = line;
        TILE_UNROLL
        for (int i = 0; i < inputs; ++i, from = opaque(from + pitch)) {
          if (i < taps - 1 && i < low) continue;
          if (i > inputs - taps && i >= high) continue;
          TILE_UNROLL
          for (int v = 0; v < vectors; ++v) {
            const vec<S> value = values<width>(from + v * width);
            TILE_UNROLL
            for (int t = 0; t < taps; ++t) {
              if (i >= t && (i - t) % stride == 0 && (i - t) / stride < count) sum[(i - t) / stride][v] += factor[t][v] * value;
            }
          }
        }
      }
    }
    store_sums(to, sum);
  }

  /// `count` pixels that see the whole kernel's width.
  template <int count, int vectors>
  TILE_INLINE void strip(const Line& at, i64 c, i64 pixel, S* to) const {
    const i64 pitch = s_.channels, step = s_.stride[2] * pitch, tap_step = s_.dilation[2] * pitch;
    const X* x = at.x + (pixel * s_.stride[2] - s_.pad[2]) * pitch + c;
    const S* w = at.w + c;
    vec<S> sum[count][vectors] = {};
    for (i64 z = 0; z < at.depths; ++z, x += depth_step_, w += depth_weights_) {
      const X* line = x;
      const S* row = w;
      for (i64 y = 0; y < at.heights; ++y, line += height_step_, row += height_weights_) {
        const X* tap = line;
        const S* factors = row;
        for (i64 t = 0; t < s_.kernel[2]; ++t, factors += pitch, tap += tap_step) {
          vec<S> factor[vectors];
          TILE_UNROLL
          for (int v = 0; v < vectors; ++v) factor[v] = load(factors + v * width);
          const X* from = tap;
          TILE_UNROLL
          for (int i = 0; i < count; ++i, from = opaque(from + step)) {
            TILE_UNROLL
            for (int v = 0; v < vectors; ++v) sum[i][v] += factor[v] * values<width>(from + v * width);
          }
        }
      }
    }
    store_sums(to, sum);
  }

  const DepthwiseRowsShape s_;
  const X* x_;
  const S* weights_;
  const Epilogue& epilogue_;
  const S zero_;
  Segment segment_[2];
  i64 row_, plane_, lines_, low_, high_, depth_step_, height_step_, depth_weights_, height_weights_;
};

}  // namespace detail

/// out[image, position, c] = Σ weights[kernel position, c] · x[image, position · stride - pad + kernel position · dilation, c],
/// zero outside the input. Of inputs that are bytes `zero` is subtracted. x is [images, input…, channels], weights [kernel…, channels]. Sums go to contract()'s
/// kind of epilogue, each element once, from all threads of the team:
///   epilogue(image, first position (flattened), first channel, rows = positions, columns = channels, const Acc* sums, ld)
/// `columns` is a std::integral_constant<i64, N> for whole blocks of channels. `rows` neighbouring pixels are summed at a time.
template <class Acc, int rows, class X, class Epilogue>
TILE_INLINE void depthwise_rows(const DepthwiseRowsShape& shape, const X* x, const Acc* weights, const Epilogue& epilogue, Team& team, int32_t zero = 0) {
  if (shape.images <= 0 || shape.channels <= 0) return;
  for (i64 extent : shape.output) {
    if (extent <= 0) return;
  }
  detail::DepthwiseRows<Acc, rows, X, Epilogue>(shape, x, weights, epilogue, zero).run(team);
}

}  // namespace tile
