#include "target/cpu/filter_points.h"

#include <algorithm>
#include <cmath>

#include "target/cpu/rows_product.h"
#include "tile/atoms/byte_digits.h"
#include "tile/atoms/dot.h"
#include "tile/kernels/winograd_tiles.h"

namespace tilewright::cpu {

void FilterPoints::of(int64_t filter, int64_t channel, double (&to)[16]) const {
  float taps[3][3];
  for (int64_t i = 0; i < 9; ++i)
    taps[i / 3][i % 3] = static_cast<float>(weights.float_at(start + by_n[static_cast<size_t>(filter)] + by_k[static_cast<size_t>(i * channels() + channel)]));
  double points[4][4];
  tile::winograd_filter(taps, points);
  for (int64_t q = 0; q < 16; ++q) to[q] = points[q / 4][q % 4];
}

Tensor filter_panels(const FilterPoints& filters, int64_t width) {
  const int64_t n = filters.filters(), channels = filters.channels();
  Tensor packed(DType::f32, {1, ceil_div(n, width), 16 * channels, width});
  auto* const to = static_cast<float*>(packed.mutable_data());
  double points[16];
  for (int64_t f = 0; f < n; ++f)
    for (int64_t c = 0; c < channels; ++c) {
      filters.of(f, c, points);
      for (int64_t q = 0; q < 16; ++q) to[((f / width * 16 + q) * channels + c) * width + f % width] = static_cast<float>(points[q]);
    }
  return packed;
}

namespace {

/// Calls panel(columns, point) for each panel of `width` filters, where point(q, column, channel) gives its transformed filters.
template <class F>
void for_each_panel(const FilterPoints& filters, int64_t width, F&& panel) {
  const int64_t channels = filters.channels();
  std::vector<double> all(static_cast<size_t>(16 * width * channels));
  const auto place = [&](int64_t q, int64_t j, int64_t c) -> double& { return all[static_cast<size_t>((q * width + j) * channels + c)]; };
  for (int64_t first = 0; first < filters.filters(); first += width) {
    const int64_t used = std::min(width, filters.filters() - first);
    double points[16];
    for (int64_t j = 0; j < used; ++j)
      for (int64_t c = 0; c < channels; ++c) {
        filters.of(first + j, c, points);
        for (int64_t q = 0; q < 16; ++q) place(q, j, c) = points[q];
      }
    panel(used, place);
  }
}

}  // namespace

Tensor filter_pairs(const FilterPoints& filters, int64_t width) {
  const int64_t channels = filters.channels(), steps = 16 * tile::dot_steps(channels, 2);
  Tensor packed(DType::bf16, {1, ceil_div(filters.filters(), width), steps, 2 * width});
  auto* to = static_cast<tile::BfloatPair*>(packed.mutable_data());
  for_each_panel(filters, width, [&](int64_t used, const auto& point) {
    const auto rounded = [&](int64_t j, int64_t k) { return tile::store_as<tile::bfloat16>(point(k / channels, j, k % channels)); };
    tile::pack_groups(to, used, 16, channels, static_cast<int>(width), rounded);
    to += steps * width;
  });
  return packed;
}

Tensor filter_digits(const FilterPoints& filters, int64_t width) {
  const int64_t channels = filters.channels();
  const auto lanes = static_cast<int>(tile_steps(channels, schedule::ProductConfig::Atom::amx_digits));
  const int64_t rows = tile::digit_steps(channels, lanes) + 1;
  Tensor packed(DType::i8, {1, ceil_div(filters.filters(), width), 16 * rows, width * int64_t{sizeof(tile::ByteDigits)}});
  auto* to = static_cast<tile::ByteDigits*>(packed.mutable_data());
  for_each_panel(filters, width, [&](int64_t used, const auto& point) {
    for (int64_t q = 0; q < 16; ++q, to += rows * width)
      tile::pack_digits(to, used, 1, channels, static_cast<int>(width), lanes, [&](int64_t j, int64_t c) { return static_cast<float>(point(q, j, c)); });
  });
  return packed;
}

bool all_points_split(const FilterPoints& filters) {
  const int64_t channels = filters.channels();
  double points[16];
  for (int64_t f = 0; f < filters.filters(); ++f) {
    float largest[16] = {};
    double squares[16] = {};
    for (int64_t c = 0; c < channels; ++c) {
      filters.of(f, c, points);
      for (int q = 0; q < 16; ++q) largest[q] = std::max(largest[q], std::abs(static_cast<float>(points[q]))), squares[q] += points[q] * points[q];
    }
    for (int q = 0; q < 16; ++q)
      if (!tile::column_splits(largest[q], squares[q] / static_cast<double>(channels), channels)) return false;
  }
  return true;
}

}  // namespace tilewright::cpu
