#pragma once

// How keys and values of attention become panels of pairs of bfloats, which dots and tile registers multiply.

#include <cstdint>
#include <cstring>

#include "tile/atoms/dot.h"
#include "tile/kernels/operands.h"

namespace tile::detail {

/// Columns that are packed at a time.
inline constexpr i64 pair_columns = 16;

/// to[j] = the pair of even[j] and odd[j] for sixteen j, of which the first `evens` and `odds` are read, zeros standing for the others.
TILE_INLINE void pair_rows(BfloatPair* to, const bfloat16* even, i64 evens, const bfloat16* odd, i64 odds) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  const auto read = [](const bfloat16* from, i64 count) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(static_cast<__mmask16>(count > 0 ? (uint32_t{1} << count) - 1 : 0), from));
  };
  _mm512_storeu_si512(to, _mm512_or_si512(read(even, evens), _mm512_slli_epi32(read(odd, odds), 16)));
#else
  for (i64 j = 0; j < pair_columns; ++j) to[j] = {{j < evens ? even[j] : bfloat16{}, j < odds ? odd[j] : bfloat16{}}};
#endif
}

/// Writes `steps` ≤ 16 rows of pairs of neighbouring k, from k0 on, of the 16 outer indices from outer0 on; a row begins `row` ≥ 16 lanes behind the one
/// before, and zeros stand for what is beyond `outers` and `depth`.
template <i64 row = pair_columns, class Batch>
TILE_NOINLINE void pack_pairs(BfloatPair* to, i64 steps, const Dense<bfloat16, Batch>& from, i64 b, i64 outer0, i64 outers, i64 k0, i64 depth) {
  static_assert(row >= pair_columns, "rows would meet");
  constexpr i64 side = pair_columns;
  if (outers > side) outers = side;
  if (depth > 2 * steps) depth = 2 * steps;
  if (from.k_stride == 1 && lanes<float> == side) {  // the bits of two bfloats in a lane
    vec<float> rows[lanes<float>] = {};
    for (i64 i = 0; i < outers; ++i) copy_padded(&rows[i], from.at(b, outer0 + i, k0), depth * static_cast<i64>(sizeof(bfloat16)));
    transpose<float>(rows);
    TILE_UNROLL
    for (int i = 0; i < lanes<float>; ++i)
      if (i < steps) std::memcpy(to + i * row, &rows[i], sizeof rows[i]);
    return;
  }
  if (from.outer_stride == 1) {
    for (i64 i = 0; i < steps; ++i) {
      const bfloat16* const line = from.at(b, outer0, k0 + 2 * i);
      pair_rows(to + i * row, line, 2 * i < depth ? outers : 0, line + from.k_stride, 2 * i + 1 < depth ? outers : 0);
    }
    return;
  }
  for (i64 i = 0; i < steps * side; ++i)
    for (i64 odd = 0; odd < 2; ++odd) {
      const i64 k = i / side * 2 + odd, outer = i % side;
      to[i / side * row + outer].of[odd] = k < depth && outer < outers ? *from.at(b, outer0 + outer, k0 + k) : bfloat16{};
    }
}

}  // namespace tile::detail
