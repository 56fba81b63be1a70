#pragma once

// Convolution with 3 × 3 kernels, stride 1, over channels-last data, by Winograd's F(2 × 2, 3 × 3): four results a tile from
// 16 products for each channel and filter instead of 36.
//
// A tile of 4 × 4 inputs d and a filter g become BᵀdB and GgGᵀ; their elementwise products, summed over channels, are 16
// matrix products; AᵀmA of the sums are 2 × 2 results:
//        1  0 -1  0           1    0    0
//   Bᵀ = 0  1  1  0      G = 1/2  1/2  1/2      Aᵀ = 1  1  1  0
//        0 -1  1  0          1/2 -1/2  1/2           0  1 -1 -1
//        0  1  0 -1           0    0    1
// Filters are transformed when the model is compiled. A task transforms some strips of tiles into its scratch and runs all
// panels of filters past them. Where all filters would pass too often, as those of many channels pass few tiles, each of the 16 products
// is computed as a whole instead: filters pass once, and tiles and sums wait in memory.

#include <cstdint>
#include <type_traits>

#include "tile/atoms/row_block.h"
#include "tile/exec/args.h"

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

template <class Block, class X, class Epilogue>
class Winograd {
  using P = typename Block::sum_type;
  using V = vec<P>;
  static constexpr i64 width = Block::columns, strip_tiles = Block::rows, points = 16;
  static constexpr i64 together = 4;                                 ///< strips that share a load of filters
  static constexpr i64 near_bytes = 1 << 19, cache_bytes = 3 << 19;  ///< a task's transformed tiles: so many, or enough strips to share
  static constexpr i64 waiting_bytes = 64 << 20;  ///< an image's transformed tiles and sums, where they wait: in a cache that all cores share

 public:
  Winograd(const WinogradShape& shape, const X* x, const P* filters, const Epilogue& epilogue) : s_(shape), x_(x), filters_(filters), epilogue_(epilogue) {
    across_ = (s_.output[1] + 1) / 2;
    tiles_ = (s_.output[0] + 1) / 2 * across_;
    strips_ = (tiles_ - 1) / strip_tiles + 1;
    panels_ = (s_.filters - 1) / width + 1;
    strip_size_ = points * strip_tiles * s_.channels;
  }

  void run(Team& team) const {
    const i64 strip_bytes = strip_size_ * static_cast<i64>(sizeof(P));
    i64 group = near_bytes / strip_bytes;
    if (group < together) group = cache_bytes / strip_bytes < together ? cache_bytes / strip_bytes : together;
    const i64 share = (s_.images * strips_ - 1) / team.size + 1;
    if (group > share) group = share;
    if (group > strips_) group = strips_;
    if (group < 1) group = 1;
    // Groups of sizes that differ by one strip at most, as many for each of the team where there are strips enough.
    i64 groups = (strips_ - 1) / group + 1;
    if (s_.images % team.size != 0) groups = (groups - 1) / team.size * team.size + team.size;
    if (groups > strips_) groups = strips_;
    group = (strips_ - 1) / groups + 1;
    // Bytes from further away than a core's own caches, either way.
    const double filters = static_cast<double>(points * s_.channels * panels_ * width),
                 waiting = static_cast<double>(points * strips_ * strip_tiles) * static_cast<double>(s_.channels + panels_ * width);
    const bool fits = waiting * static_cast<double>(sizeof(P)) <= static_cast<double>(waiting_bytes);
    if (fits && filters * static_cast<double>(groups) > filters + 2 * waiting) return run_by_points(team);
    team.for_each(s_.images * groups, [&](i64 index, int worker) {
      P* const transformed = team.scratch_as<P>(worker, group * strip_size_);
      const i64 g = index % groups, first = g * strips_ / groups, end = (g + 1) * strips_ / groups;
      task(index / groups, first, end, transformed);
    });
  }

 private:
  /// Transformed tiles as [point, tile, channels], sums as [panel, strip, point, tile, column].
  void run_by_points(Team& team) const {
    const i64 rows = strips_ * strip_tiles, point_rows = rows * s_.channels, sums_size = points * strip_tiles * width;
    P* const transformed = team.scratch_as<P>(team.shared_slot(), points * point_rows + panels_ * strips_ * sums_size);
    P* const sums = transformed + points * point_rows;
    const i64 point_size = s_.channels * width, units = points * panels_;
    for (i64 image = 0; image < s_.images; ++image) {
      team.for_range(tiles_, 4, [&](i64 begin, i64 end) {
        for (i64 tile = begin; tile < end; ++tile) transform(image, tile, transformed + tile * s_.channels, point_rows);
      });
      team.for_range(units, 1, [&](i64 begin, i64 end) {
        for (i64 unit = begin; unit < end; ++unit) {
          const i64 q = unit / panels_, p = unit % panels_;
          const P* const panel = filters_ + (p * points + q) * point_size;
          // While one panel is used, the next one comes nearer.
          const i64 next = unit + 1 < end ? ((unit + 1) % panels_ * points + (unit + 1) / panels_) * point_size : 0;
          Ahead ahead{reinterpret_cast<const char*>(filters_ + next), unit + 1 < end ? point_size * static_cast<i64>(sizeof(P)) / Ahead::line_bytes : 0, 1};
          ahead.at_once = ahead.lines * 4 / (strips_ * s_.channels) + 1;
          for (i64 s = 0; s < strips_; ++s) {
            static constexpr i64 nowhere[1] = {0};
            Block::multiply(tiles_of(s), 1, s_.channels, transformed + q * point_rows + s * strip_tiles * s_.channels, nowhere, panel,
                            sums + (p * strips_ + s) * sums_size + q * strip_tiles * width, ahead);
          }
        }
      });
      team.for_range(panels_ * strips_, 1, [&](i64 begin, i64 end) {
        alignas(64) P results[4 * strip_tiles * width];
        for (i64 i = begin; i < end; ++i) give_columns(image, i % strips_, i / strips_, sums + i * sums_size, results);
      });
    }
  }

  void task(i64 image, i64 first, i64 end, P* transformed) const {
    for (i64 s = first; s < end; ++s) {
      for (i64 i = 0; i < tiles_of(s); ++i)
        transform(image, s * strip_tiles + i, transformed + (s - first) * strip_size_ + i * s_.channels, strip_tiles * s_.channels);
    }
    alignas(64) P sums[together][points * strip_tiles * width], results[4 * strip_tiles * width];
    const i64 point_size = s_.channels * width, panel_size = points * point_size;
    const i64 passes = (end - first - 1) / together + 1, a_pass = (end - first - 1) / passes + 1;
    for (i64 p = 0; p < panels_; ++p) {
      const P* const panel = filters_ + p * panel_size;
      for (i64 s0 = first; s0 < end; s0 += a_pass) {
        const i64 count = end - s0 < a_pass ? end - s0 : a_pass;
        for (i64 q = 0; q < points; ++q) {
          // While one point's filters are used, the next one's come nearer.
          const bool last = p + 1 == panels_ && q + 1 == points;
          Ahead ahead{reinterpret_cast<const char*>(panel + (q + 1) * point_size), last ? 0 : point_size * static_cast<i64>(sizeof(P)) / Ahead::line_bytes, 1};
          ahead.at_once = ahead.lines * 4 / (count * s_.channels) + 1;
          for (i64 i = 0; i < count; ++i) {
            static constexpr i64 nowhere[1] = {0};
            const P* const rows = transformed + (s0 + i - first) * strip_size_ + q * strip_tiles * s_.channels;
            Block::multiply(tiles_of(s0 + i), 1, s_.channels, rows, nowhere, panel + q * point_size, sums[i] + q * strip_tiles * width, ahead);
          }
        }
        for (i64 i = 0; i < count; ++i) give_columns(image, s0 + i, p, sums[i], results);
      }
    }
  }

  i64 tiles_of(i64 strip) const { return tiles_ - strip * strip_tiles < strip_tiles ? tiles_ - strip * strip_tiles : strip_tiles; }

  /// BᵀdB of one tile, all channels: point q of it begins at to + q · step.
  TILE_NOINLINE void transform(i64 image, i64 tile, P* to, i64 step) const {
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
          P* const row = to + i * 4 * step + c;
          store(row, half[i][0] - half[i][2]);
          store(row + step, half[i][1] + half[i][2]);
          store(row + 2 * step, half[i][2] - half[i][1]);
          store(row + 3 * step, half[i][1] - half[i][3]);
        }
      }
    };
    if (inside) return all([&](int i, int j, i64 c) { return load_wide<P>(from + i * line + j * s_.pitch + c); });
    all([&](int i, int j, i64 c) {
      const bool valid = y0 + i >= 0 && y0 + i < s_.input[0] && x0 + j >= 0 && x0 + j < s_.input[1];
      return valid ? load_wide<P>(from + i * line + j * s_.pitch + c) : V{};
    });
  }

  /// give() for one panel's columns.
  void give_columns(i64 image, i64 strip, i64 panel, const P* sums, P* results) const {
    const i64 n0 = panel * width;
    if (s_.filters - n0 >= width) {
      give(image, strip, n0, std::integral_constant<i64, width>{}, sums, results);
    } else {
      give(image, strip, n0, s_.filters - n0, sums, results);
    }
  }

  /// AᵀmA of a strip's sums, and the epilogue over the pieces of lines that its tiles are.
  template <class Columns>
  void give(i64 image, i64 strip, i64 n0, Columns columns, const P* sums, P* results) const {
    const i64 count = tiles_of(strip), step = strip_tiles * width;
    P* const lines[2] = {results, results + 2 * step};
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
      const i64 tile = strip * strip_tiles + i, y = tile / across_ * 2, x = tile % across_ * 2;
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
  const P* filters_;
  const Epilogue& epilogue_;
  i64 across_, tiles_, strips_, panels_, strip_size_;
};

}  // namespace detail

/// out[image, (y, x), f] = Σ w[f, dy, dx, c] · x[image, y + dy - pad, x + dx - pad, c], zero outside the input. x is [images,
/// height, width, pitch], of floats as the sums are or shorter ones, of which the first `channels` are read; `filters` holds winograd_filter()s as [panel, 16
/// points, channels, Block::columns], the last panel padded. Block: RowBlocks whose stride is `channels`. Sums go to contract_rows()' kind of epilogue:
///   epilogue(image, first position (flattened), first filter, rows = positions, columns = filters, const P* sums, ld)
template <class Block, class X, class Epilogue>
void winograd(const WinogradShape& shape, const X* x, const typename Block::sum_type* filters, const Epilogue& epilogue, Team& team) {
  if (shape.images <= 0 || shape.filters <= 0 || shape.output[0] <= 0 || shape.output[1] <= 0) return;
  detail::Winograd<Block, X, Epilogue>(shape, x, filters, epilogue).run(team);
}

}  // namespace tile
