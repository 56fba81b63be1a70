#pragma once

// What Winograd's F(2 × 2, 3 × 3) does around its products: a convolution with 3 × 3 kernels, stride 1, over channels-last data takes four results a tile from
// 16 products for each channel and filter instead of 36.
//
// A tile of 4 × 4 inputs d and a filter g become BᵀdB and GgGᵀ; their elementwise products, summed over channels, are 16
// matrix products; AᵀmA of the sums are 2 × 2 results:
//        1  0 -1  0           1    0    0
//   Bᵀ = 0  1  1  0      G = 1/2  1/2  1/2      Aᵀ = 1  1  1  0
//        0 -1  1  0          1/2 -1/2  1/2           0  1 -1 -1
//        0  1  0 -1           0    0    1

#include <cstdint>
#include <type_traits>

#include "tile/atoms/dot.h"

namespace tile {

struct WinogradShape {
  i64 images, channels, filters;  ///< channels: a multiple of a vector's elements
  i64 input[2], output[2];        ///< height, width
  i64 pad[2];                     ///< before the first element
  i64 pitch;                      ///< elements of x from one position to the next; lines and images follow without gaps
};

/// GgGᵀ of a filter's 3 × 3 taps, as 4 × 4 values. For the compiler and for tests.
template <class T>
void winograd_filter(const T (&g)[3][3], double (&u)[4][4]) {
  const auto along = [](double a, double b, double c, double(&to)[4]) { to[0] = a, to[1] = (a + b + c) / 2, to[2] = (a - b + c) / 2, to[3] = c; };
  double half[3][4];
  for (int j = 0; j < 3; ++j) along(static_cast<double>(g[0][j]), static_cast<double>(g[1][j]), static_cast<double>(g[2][j]), half[j]);
  for (int i = 0; i < 4; ++i) along(half[0][i], half[1][i], half[2][i], u[i]);
}

namespace detail {

/// The tiles of images, and where they lie; P is what is computed in.
template <class P, class X, class Epilogue>
class WinogradTiles {
  using V = vec<P>;

 public:
  static constexpr i64 points = 16;

  WinogradTiles(const WinogradShape& shape, const X* x, const Epilogue& epilogue) : s_(shape), x_(x), epilogue_(epilogue) { across_ = (s_.output[1] + 1) / 2; }

  /// Tiles of an image.
  i64 count() const { return (s_.output[0] + 1) / 2 * across_; }

  /// BᵀdB of one tile, all channels, as a left operand of Atom: point q of it begins at to + q · step.
  template <class Atom>
  TILE_NOINLINE void transform(i64 image, i64 tile, typename Atom::left_type* to, i64 step) const {
    const i64 y0 = tile / across_ * 2 - s_.pad[0], x0 = tile % across_ * 2 - s_.pad[1];
    const i64 line = s_.input[1] * s_.pitch;
    const X* const from = x_ + image * s_.input[0] * line + y0 * line + x0 * s_.pitch;
    const bool inside = y0 >= 0 && x0 >= 0 && y0 + 4 <= s_.input[0] && x0 + 4 <= s_.input[1];
    const auto all = [&](auto&& element) {
      for (i64 c = 0; c < s_.channels; c += lanes<P>) {
        V half[4][4];  // Bᵀd
        TILE_UNROLL
        for (int j = 0; j < 4; ++j) {
          const V d0 = element(0, j, c), d1 = element(1, j, c), d2 = element(2, j, c), d3 = element(3, j, c);
          half[0][j] = d0 - d2, half[1][j] = d1 + d2, half[2][j] = d2 - d1, half[3][j] = d1 - d3;
        }
        TILE_UNROLL
        for (int i = 0; i < 4; ++i) {
          auto* const row = to + i * 4 * step + c;
          Atom::store_left(row, half[i][0] - half[i][2]);
          Atom::store_left(row + step, half[i][1] + half[i][2]);
          Atom::store_left(row + 2 * step, half[i][2] - half[i][1]);
          Atom::store_left(row + 3 * step, half[i][1] - half[i][3]);
        }
      }
    };
    if (inside) return all([&](int i, int j, i64 c) { return load_wide<P>(from + i * line + j * s_.pitch + c); });
    all([&](int i, int j, i64 c) {
      const bool valid = y0 + i >= 0 && y0 + i < s_.input[0] && x0 + j >= 0 && x0 + j < s_.input[1];
      return valid ? load_wide<P>(from + i * line + j * s_.pitch + c) : V{};
    });
  }

  /// The results of `count` tiles from `first` on, of `width` filters from n0 on or those that there are: AᵀmA of their sums, of which those of a point begin
  /// `step` elements behind those of the one before, and the epilogue over the pieces of lines that the tiles are. `results`: memory for 4 · count · width.
  template <i64 width>
  void give(i64 image, i64 first, i64 count, i64 n0, const P* sums, i64 step, P* results) const {
    if (s_.filters - n0 >= width) {
      give<width>(image, first, count, n0, std::integral_constant<i64, width>{}, sums, step, results);
    } else {
      give<width>(image, first, count, n0, s_.filters - n0, sums, step, results);
    }
  }

 private:
  template <i64 width, class Columns>
  void give(i64 image, i64 first, i64 count, i64 n0, Columns columns, const P* sums, i64 step, P* results) const {
    P* const lines[2] = {results, results + 2 * count * width};
    for (i64 i = 0; i < count; ++i) {
      TILE_UNROLL
      for (i64 j = 0; j < width; j += lanes<P>) {
        const P* const m = sums + i * width + j;
        V half[2][4];  // Aᵀm
        TILE_UNROLL
        for (int q = 0; q < 4; ++q) {
          const V m0 = load(m + q * step), m1 = load(m + (4 + q) * step), m2 = load(m + (8 + q) * step), m3 = load(m + (12 + q) * step);
          half[0][q] = m0 + m1 + m2, half[1][q] = m1 - m2 - m3;
        }
        TILE_UNROLL
        for (int r = 0; r < 2; ++r) {
          store(lines[r] + 2 * i * width + j, half[r][0] + half[r][1] + half[r][2]);
          store(lines[r] + (2 * i + 1) * width + j, half[r][1] - half[r][2] - half[r][3]);
        }
      }
    }
    for (i64 i = 0; i < count;) {
      const i64 tile = first + i, y = tile / across_ * 2, x = tile % across_ * 2;
      const i64 here = count - i < across_ - x / 2 ? count - i : across_ - x / 2;
      const i64 pixels = 2 * here < s_.output[1] - x ? 2 * here : s_.output[1] - x;
      for (i64 r = 0; r < 2 && y + r < s_.output[0]; ++r) {
        epilogue_(image, (y + r) * s_.output[1] + x, n0, pixels, columns, static_cast<const P*>(lines[r] + 2 * i * width),
                  std::integral_constant<i64, width>{});
      }
      i += here;
    }
  }

  const WinogradShape s_;
  const X* x_;
  const Epilogue& epilogue_;
  i64 across_;
};

}  // namespace detail

}  // namespace tile
