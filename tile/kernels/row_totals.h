#pragma once

// The softmax of rows whose scores come a block at a time: the largest score so far, and the sum of the powers of all, less it.

#include <cstdint>

#include "tile/exec/simd.h"
#include "tile/math.h"

namespace tile::detail {

/// What up to `rows` rows know of the scores that they have seen.
template <i64 rows>
class RowTotals {
 public:
  /// Before any score.
  void begin() {
    for (i64 i = 0; i < room; ++i) largest_[i] = -infinity, sum_[i] = 0;
  }

  /// Turns `count` scores of each of the first `used` rows into powers, and takes them in; they are followed by zeros up to whole vectors.
  /// scale[i], with room for whole vectors: what earlier powers of row i are to be multiplied by.
  TILE_NOINLINE void add(float* scores, i64 stride, i64 used, i64 count, float* scale) {
    V part[room] = {};
    float base[room];
    for (i64 i = 0; i < used; ++i) part[i] = largest_in(scores + i * stride, count);
    for (i64 i = 0; i < used; i += width) {
      const V before = load(largest_ + i);
      const V top = larger(fold_rows<float>(part + i, [](V a, V b) { return larger(a, b); }), before);
      // Nothing but -∞ so far: the powers are zeros until something larger comes.
      const V subtracted = top == -infinity ? V{} : top;
      store(largest_ + i, top);
      store(base + i, subtracted);
      store(scale + i, powers(before - subtracted));
    }
    for (i64 i = 0; i < used; ++i) part[i] = to_powers(scores + i * stride, count, base[i]);
    for (i64 i = 0; i < used; i += width) {
      const V here = fold_rows<float>(part + i, [](V a, V b) { return a + b; });
      store(sum_ + i, load(sum_ + i) * load(scale + i) + here);
    }
  }
  /// The sum of e^(score - largest) that softmax divides by: not a number where all scores are -∞.
  float total(i64 i) const { return largest_[i] == -infinity ? quiet_nan : sum_[i]; }

 private:
  using V = vec<float>;
  static constexpr i64 width = lanes<float>, room = (rows + width - 1) / width * width;

  static TILE_INLINE V powers(V x) { return exp_to_one<vec<uint32_t>>(x); }
  /// The vector at `row`, its lanes from `count` on replaced by -∞.
  static TILE_INLINE V load_first(const float* row, i64 count) {
    vec<int32_t> lane;
    TILE_UNROLL
    for (int i = 0; i < width; ++i) lane[i] = i;
    return lane < static_cast<int32_t>(count) ? load(row) : broadcast<float>(-infinity);
  }
  static TILE_INLINE V largest_in(const float* row, i64 count) {
    constexpr i64 chains = 4;
    V top[chains];
    TILE_UNROLL
    for (V& t : top) t = broadcast<float>(-infinity);
    for (; count >= chains * width; count -= chains * width, row += chains * width) {
      TILE_UNROLL
      for (i64 c = 0; c < chains; ++c) top[c] = larger(load(row + c * width), top[c]);
    }
    for (; count >= width; count -= width, row += width) top[0] = larger(load(row), top[0]);
    if (count > 0) top[1] = larger(load_first(row, count), top[1]);
    return larger(larger(top[0], top[1]), larger(top[2], top[3]));
  }
  /// Turns a row's scores into powers; returns their sums, a lane each.
  static TILE_INLINE V to_powers(float* row, i64 count, float subtracted) {
    V sum{};
    for (; count >= width; count -= width, row += width) {
      const V p = powers(load(row) - subtracted);
      store(row, p);
      sum += p;
    }
    if (count > 0) {
      const V p = powers(load_first(row, count) - subtracted);
      store(row, p);
      sum += p;
    }
    return sum;
  }

  alignas(64) float largest_[room], sum_[room];
};

}  // namespace tile::detail
