#pragma once

// A float as the sum of bfloats, of three of them exactly: each is the nearest one to what those before it leave.

#include <cstdint>

#include "tile/atoms/dot.h"

namespace tile {

/// A column's weights for two neighbouring k as parts. They lie part after part in a panel's row: pair (part, column) at part · width + column.
template <int parts>
struct BfloatParts {
  BfloatPair of[parts];
};

namespace detail {

/// The upper bits of the nearest bfloat.
TILE_INLINE uint32_t nearest_bfloat(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  return (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
}

/// Whether parts stand for the value: neither a sum of products overflows that the weights allow for, nor is a part subnormal, which tiles take for zero.
TILE_INLINE bool splits(float value) {
  constexpr uint32_t least = (127u - 100) << 23, limit = (127u + 64) << 23;
  const uint32_t magnitude = bit_cast<uint32_t>(value) & 0x7fffffffu;
  return magnitude == 0 || magnitude - least < limit - least;
}

}  // namespace detail

/// to[p · apart] = part p of `value`, the largest first: all of it is three, two err by 2^-17 of it.
template <int parts>
TILE_INLINE void split_float(float value, bfloat16* to, i64 apart) {
  TILE_UNROLL
  for (int p = 0; p < parts; ++p) {
    const uint32_t bits = detail::nearest_bfloat(value);
    to[p * apart] = {static_cast<uint16_t>(bits >> 16)};
    value -= bit_cast<float>(bits);
  }
}

/// Whether products with the weight are right for all floats that have parts, in sums of `k`.
inline bool weight_splits(float weight, i64 k) { return detail::splits(weight) && static_cast<double>(k) * __builtin_fabsf(weight) < 0x1p62; }

/// Writes the panels of `columns` columns that AmxSplitBlocks read, from `element(column, k)`, as pack_groups() does.
template <int parts, class F>
void pack_parts(BfloatParts<parts>* to, i64 columns, i64 runs, i64 depth, int width, F&& element) {
  for (i64 first = 0; first < columns; first += width)
    for (i64 r = 0; r < runs; ++r)
      for (i64 k = 0; k < depth; k += 2, to += width)
        for (i64 j = 0; j < width; ++j)
          for (int e = 0; e < 2; ++e) {
            const float value = first + j < columns && k + e < depth ? element(first + j, r * depth + k + e) : 0;
            split_float<parts>(value, reinterpret_cast<bfloat16*>(to) + 2 * j + e, 2 * width);
          }
}

}  // namespace tile
