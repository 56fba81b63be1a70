#pragma once

// The two products of attention in bfloats on tile registers: strips of 32 rows times tiles of 16 keys, and their powers, rounded, times tiles of values.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tile/atoms/amx.h"
#include "tile/exec/args.h"
#include "tile/kernels/attention_pairs.h"

namespace tile {

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
          detail::pack_pairs(tiles, step_pairs, key, batch, key0 + n + half, count - n - half, 2 * step_pairs * s, head - 2 * step_pairs * s);
  }
  template <class Value>
  static void pack_values(bfloat16* to, const Value& value, i64 batch, i64 key0, i64 count) {
    auto* tiles = reinterpret_cast<BfloatPair*>(to);
    for (i64 column = 0; column < value_panels * value_columns; column += value_columns)
      for (i64 k = 0; k < count; k += 2 * side)
        for (i64 half = 0; half < value_columns; half += side, tiles += side * side)
          detail::pack_pairs(tiles, side, value, batch, column + half, value_head - column - half, key0 + k, count - k);
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
