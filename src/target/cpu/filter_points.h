#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor.h"

/// The 3 x 3 filters of a convolution as Winograd's method multiplies them: tile/kernels/winograd_tiles.h.
namespace tilewright::cpu {

/// Filters of a tensor of weights: element (filter, k) at start + by_n[filter] + by_k[k]; k runs over three rows, three columns, channels.
struct FilterPoints {
  const Tensor& weights;
  int64_t start;
  const std::vector<int64_t>&by_n, &by_k;

  int64_t filters() const { return static_cast<int64_t>(by_n.size()); }
  int64_t channels() const { return static_cast<int64_t>(by_k.size()) / 9; }
  /// to[q] for each of the 16 points of a filter's channel, nothing rounded but by double's own arithmetic.
  void of(int64_t filter, int64_t channel, double (&to)[16]) const;
};

/// Transformed filters as tile::WinogradProducts has them for multiply-adds: f32 [1, panels, 16 · channels, width].
Tensor filter_panels(const FilterPoints& filters, int64_t width);
/// The same for dots of bfloats, each rounded once: bf16 [1, panels, 16 · pairs of channels, 2 · width].
Tensor filter_pairs(const FilterPoints& filters, int64_t width);
/// The same for digits: i8 [1, panels, 16 · rows of a point, width · bytes of ByteDigits].
Tensor filter_digits(const FilterPoints& filters, int64_t width);

/// Whether numbers of 24 bits stand for every column of the 16 products.
bool all_points_split(const FilterPoints& filters);

}  // namespace tilewright::cpu
