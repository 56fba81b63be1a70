#pragma once

// The two products of attention in bfloats on tile registers: strips of 32 rows times tiles of 16 keys, and their powers, rounded, times tiles of values.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tile/atoms/amx.h"
#include "tile/exec/args.h"
#include "tile/kernels/operands.h"

namespace tile {

namespace detail {

/// to[j] = the pair of even[j] and odd[j] for sixteen j, of which the first `evens` and `odds` are read, zeros standing for the others.
TILE_INLINE void pair_rows(BfloatPair* to, const bfloat16* even, i64 evens, const bfloat16* odd, i64 odds) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  const auto read = [](const bfloat16* from, i64 count) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(static_cast<__mmask16>(count > 0 ? (uint32_t{1} << count) - 1 : 0), from));
  };
  _mm512_storeu_si512(to, _mm512_or_si512(read(even, evens), _mm512_slli_epi32(read(odd, odds), 16)));
#else
  for (i64 j = 0; j < 16; ++j) to[j] = {{j < evens ? even[j] : bfloat16{}, j < odds ? odd[j] : bfloat16{}}};
#endif
}

/// Writes `steps` rows of pairs of neighbouring k, from k0 on, of the 16 outer indices from outer0 on, as a tile of columns holds them; zeros beyond
/// `outers` and `depth`.
template <int steps, class Batch>
TILE_NOINLINE void pack_tile(BfloatPair* to, const Dense<bfloat16, Batch>& from, i64 b, i64 outer0, i64 outers, i64 k0, i64 depth) {
  constexpr int side = 16;
  if (outers > side) outers = side;
  if (depth > 2 * steps) depth = 2 * steps;
  if (from.k_stride == 1 && lanes<float> == side) {  // the bits of two bfloats in a lane
    vec<float> rows[lanes<float>] = {};
    for (i64 i = 0; i < outers; ++i) copy_padded(&rows[i], from.at(b, outer0 + i, k0), depth * static_cast<i64>(sizeof(bfloat16)));
    transpose<float>(rows);
    TILE_UNROLL
    for (int i = 0; i < lanes<float>; ++i)
      if (i < steps) std::memcpy(to + i * side, &rows[i], sizeof rows[i]);
    return;
  }
  if (from.outer_stride == 1) {
    for (i64 i = 0; i < steps; ++i) {
      const bfloat16* const row = from.at(b, outer0, k0 + 2 * i);
      pair_rows(to + i * side, row, 2 * i < depth ? outers : 0, row + from.k_stride, 2 * i + 1 < depth ? outers : 0);
    }
    return;
  }
  for (i64 i = 0; i < steps * side; ++i)
    for (i64 odd = 0; odd < 2; ++odd) {
      const i64 k = i / side * 2 + odd, outer = i % side;
      to[i].of[odd] = k < depth && outer < outers ? *from.at(b, outer0 + outer, k0 + k) : bfloat16{};
    }
}

}  // namespace detail

/// What AttentionBlocks has, for models that round queries, keys, values and probabilities to bfloats. Powers, at most one, are rounded before they meet the
/// values; sums are floats.
template <i64 head_, i64 value_head_, i64 keys = 0, i64 block_limit = 512, class Tiles = TileRegisters>
class AmxAttentionBlocks {
  static constexpr i64 side = 16;
  static constexpr i64 rounded(i64 count, i64 to) { return (count + to - 1) / to * to; }
  /// Pairs of a key's elements, in steps as even as can be.
  static constexpr i64 pairs = (head_ + 1) / 2, key_steps = (pairs + side - 1) / side;
  static constexpr int step_pairs = static_cast<int>((pairs + key_steps - 1) / key_steps);
  static constexpr i64 blocks = keys > 0 ? (keys - 1) / block_limit + 1 : 1;

 public:
  static constexpr i64 head = head_, value_head = value_head_;
  using element = bfloat16;
  static constexpr i64 strip = 2 * side, key_columns = 2 * side, value_columns = 2 * side, value_rows = strip;
  static constexpr i64 block_keys = rounded(keys > 0 ? (keys - 1) / blocks + 1 : block_limit, key_columns), key_panels = block_keys / key_columns;
  static constexpr i64 value_panels = (value_head - 1) / value_columns + 1;
  static constexpr i64 stride = block_keys + side;
  static constexpr i64 query_stride = 2 * step_pairs * key_steps;
  static constexpr i64 key_size = block_keys * query_stride, value_size = value_panels * value_columns * block_keys, query_size = strip * query_stride;

  /// Keys, values and queries are Dense<bfloat16>.
  template <class Key>
  static void pack_keys(bfloat16* to, const Key& key, i64 batch, i64 key0, i64 count) {
    auto* tiles = reinterpret_cast<BfloatPair*>(to);
    for (i64 n = 0; n < count; n += key_columns)
      for (i64 s = 0; s < key_steps; ++s)
        for (i64 half = 0; half < key_columns; half += side, tiles += step_pairs * side)
          detail::pack_tile<step_pairs>(tiles, key, batch, key0 + n + half, count - n - half, 2 * step_pairs * s, head - 2 * step_pairs * s);
  }
  template <class Value>
  static void pack_values(bfloat16* to, const Value& value, i64 batch, i64 key0, i64 count) {
    auto* tiles = reinterpret_cast<BfloatPair*>(to);
    for (i64 column = 0; column < value_panels * value_columns; column += value_columns)
      for (i64 k = 0; k < count; k += 2 * side)
        for (i64 half = 0; half < value_columns; half += side, tiles += side * side)
          detail::pack_tile<side>(tiles, value, batch, column + half, value_head - column - half, key0 + k, count - k);
  }

  template <class Query>
  static const bfloat16* queries(bfloat16* copy, const Query& query, i64 batch, i64 row0, i64 rows) {
    if (query.k_stride == 1 && query.outer_stride == query_stride && head == query_stride) return query.at(batch, row0, 0);
    for (i64 i = 0; i < rows; ++i) {
      const bfloat16* const from = query.at(batch, row0 + i, 0);
      for (i64 k = 0; k < query_stride; ++k) copy[i * query_stride + k] = k < head ? from[k * query.k_stride] : bfloat16{};
    }
    return copy;
  }

  template <class Before, class Each>
  static void multiply_keys(const bfloat16* queries, i64 rows, const bfloat16* panels, i64 count, const Before& before, const Each& each) {
    static constexpr i64 nowhere[1] = {0};
    const auto* const tiles = reinterpret_cast<const BfloatPair*>(panels);
    AmxBlocks<float, strip, 2, query_stride, BfloatPair, step_pairs, Tiles> block;
    const auto results = [&](const BlockPlace& place, i64 row, i64 some, const float* sums) {
      constexpr std::integral_constant<i64, key_columns> all{};
      if (count - place.column < key_columns) {
        each(row, place.column, some, count - place.column, sums, all);
      } else {
        each(row, place.column, some, all, sums, all);
      }
    };
    Ahead ahead;
    for (i64 n = 0; n < count; n += key_columns) {
      before(n / key_columns);
      block.multiply({0, 0, n}, rows, 1, query_stride, queries, nowhere, tiles + n * query_stride / 2, ahead, nullptr, results);
    }
    block.finish(results);
  }

  static void multiply_values(float* powers, i64 rows, const bfloat16* panels, i64 count, float* sums, bool accumulate) {
    static constexpr i64 nowhere[1] = {0};
    const auto* const tiles = reinterpret_cast<const BfloatPair*>(panels);
    auto* const narrow = reinterpret_cast<bfloat16*>(powers);
    // Powers are followed by zeros up to whole vectors.
    const i64 filled = rounded(count, lanes<float>), depth = rounded(count, 2 * side);
    for (i64 i = 0; i < rows; ++i) {
      narrow_row(powers + i * stride, filled, narrow + i * 2 * stride);
      for (i64 j = filled; j < depth; j += lanes<float>) std::memset(narrow + i * 2 * stride + j, 0, lanes<float> * sizeof(bfloat16));
    }
    AmxBlocks<float, strip, 2, 2 * stride, BfloatPair, side, Tiles> block;
    const auto results = [&](const BlockPlace& place, i64 row, i64 some, const float* from) {
      float* const to = sums_at(sums, place.column, row);
      for (i64 i = 0; i < some * value_columns; i += lanes<float>) store(to + i, accumulate ? load(to + i) + load(from + i) : load(from + i));
    };
    Ahead ahead;
    for (i64 p = 0; p < value_panels; ++p) block.multiply({0, 0, p}, rows, 1, depth, narrow, nowhere, tiles + p * depth * side, ahead, nullptr, results);
    block.finish(results);
  }
  static float* sums_at(float* sums, i64 p, i64 row) { return sums + (p * strip + row) * value_columns; }
};

}  // namespace tile
