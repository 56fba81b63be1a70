#pragma once

// A float as the sum of three bfloats, exactly: each is the nearest one to what those before it leave.

#include <cstdint>

#include "tile/atoms/dot.h"

namespace tile {

/// A column's weights for two neighbouring k as parts. The triples of a panel's row lie part after part: pair (part, column) at part · width + column.
struct BfloatTriple {
  BfloatPair parts[3];
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

/// The three parts of `value`, the largest first.
TILE_INLINE void split_float(float value, bfloat16& first, bfloat16& second, bfloat16& third) {
  const uint32_t a = detail::nearest_bfloat(value);
  const float rest = value - bit_cast<float>(a);
  const uint32_t b = detail::nearest_bfloat(rest);
  const float last = rest - bit_cast<float>(b);
  first = {static_cast<uint16_t>(a >> 16)}, second = {static_cast<uint16_t>(b >> 16)}, third = {static_cast<uint16_t>(bit_cast<uint32_t>(last) >> 16)};
}

/// Whether products with the weight are right for all floats that have parts, in sums of `k`.
inline bool weight_splits(float weight, i64 k) { return detail::splits(weight) && static_cast<double>(k) * __builtin_fabsf(weight) < 0x1p62; }

/// Writes the panels of `columns` columns that AmxSplitBlocks read, from `element(column, k)`, as pack_groups() does.
template <class F>
void pack_triples(BfloatTriple* to, i64 columns, i64 runs, i64 depth, int width, F&& element) {
  for (i64 first = 0; first < columns; first += width)
    for (i64 r = 0; r < runs; ++r)
      for (i64 k = 0; k < depth; k += 2, to += width) {
        auto* const pairs = reinterpret_cast<BfloatPair*>(to);
        for (i64 j = 0; j < width; ++j)
          for (int e = 0; e < 2; ++e) {
            const float value = first + j < columns && k + e < depth ? element(first + j, r * depth + k + e) : 0;
            split_float(value, pairs[j].of[e], pairs[width + j].of[e], pairs[2 * width + j].of[e]);
          }
      }
}

}  // namespace tile
