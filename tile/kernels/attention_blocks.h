#pragma once

// The two products of attention by an atom of tile/atoms/dot.h: strips of rows times panels of keys, and their powers times panels of values.

#include <cstdint>
#include <type_traits>

#include "tile/atoms/row_block.h"
#include "tile/exec/args.h"
#include "tile/kernels/attention_pairs.h"
#include "tile/kernels/operands.h"

namespace tile {

/// How attention is cut, and its products. `head`, `value_head`: elements of a key and of a value; `keys`: their number where it is a constant, else 0;
/// `block_limit`: keys of a block, at most. `Lane`: of panels, float or, for models that round queries, keys, values and probabilities to bfloats,
/// BfloatPair: powers, at most one, are rounded before they meet the values.
template <i64 head_, i64 value_head_, i64 keys = 0, i64 block_limit = 512, class Lane = float>
class AttentionBlocks {
  using Atom = Dot<float, Lane>;
  static constexpr bool pairs = Atom::group == 2;
  /// Elements along a sum, zeros for those that the last step lacks.
  static constexpr i64 padded(i64 count) { return dot_steps(count, Atom::group) * Atom::group; }

 public:
  static constexpr i64 head = head_, value_head = value_head_;
  using element = typename Atom::left_type;  ///< of copied queries, and of panels
  /// Rows that hold their scores of a block at a time: a multiple of every register block's.
  static constexpr i64 strip = 24;

 private:
  static constexpr int most_vectors = vector_registers == 32 ? 4 : 2;
  /// Rows of the register block with so many vectors of columns.
  static constexpr int rows_beside(int vectors) { return (vector_registers == 32 ? 24 : 12) / vectors; }

  static constexpr i64 vectors_of(i64 columns) { return (columns + lanes<float> - 1) / lanes<float>; }
  static constexpr i64 panels_of(i64 columns) { return (vectors_of(columns) + most_vectors - 1) / most_vectors; }
  static constexpr int panel_vectors(i64 columns) { return static_cast<int>((vectors_of(columns) + panels_of(columns) - 1) / panels_of(columns)); }

  static constexpr i64 blocks = keys > 0 ? (keys - 1) / block_limit + 1 : 1;

 public:
  static constexpr i64 block_keys = keys > 0 ? (keys - 1) / blocks + 1 : block_limit;

 private:
  /// Panels of keys, and the last one where it is known to be narrower.
  static constexpr int key_vectors = vectors_of(block_keys) < most_vectors ? static_cast<int>(vectors_of(block_keys)) : most_vectors;

 public:
  static constexpr i64 key_columns = key_vectors * lanes<float>, key_panels = (block_keys - 1) / key_columns + 1;

 private:
  static constexpr int last_vectors = keys > 0 ? static_cast<int>(vectors_of(block_keys) - (key_panels - 1) * key_vectors) : key_vectors;
  static constexpr int key_rows = rows_beside(key_vectors);
  static constexpr int value_vectors = panel_vectors(value_head);
  /// Keys, at most, whose values stay in the first level cache while the rows of a strip pass.
  static constexpr i64 chain = 128;

 public:
  /// Panels of values: whole blocks of keys, a few columns each. Their sums leave in so many rows.
  static constexpr i64 value_columns = value_vectors * lanes<float>, value_panels = panels_of(value_head);
  static constexpr int value_rows = rows_beside(value_vectors);
  /// From one row of scores to the next: a cache line more, so that rows do not meet in the same sets.
  static constexpr i64 stride = key_panels * key_columns + lanes<float>;
  /// From one copied query to the next.
  static constexpr i64 query_stride = padded(head);
  /// Elements of a block's panels, and of a strip's queries.
  static constexpr i64 key_size = key_panels * key_columns * query_stride, value_size = value_panels * value_columns * padded(block_keys),
                       query_size = strip * query_stride;

  template <class Key>
  static void pack_keys(element* to, const Key& key, i64 batch, i64 key0, i64 count) {
    for (i64 n = 0; n < count; n += key_columns, to += key_columns * query_stride) {
      if (last_is_narrow(n)) {
        pack<last_vectors * lanes<float>>(to, key, batch, key0 + n, count - n, 0, head);
      } else {
        pack<key_columns>(to, key, batch, key0 + n, key_columns < count - n ? key_columns : count - n, 0, head);
      }
    }
  }
  template <class Value>
  static void pack_values(element* to, const Value& value, i64 batch, i64 key0, i64 count) {
    for (i64 p = 0; p < value_panels; ++p) {
      const i64 column = p * value_columns, left = value_head - column;
      pack<value_columns>(to + column * padded(count), value, batch, column, left < value_columns ? left : value_columns, key0, count);
    }
  }

  /// The rows' queries, one behind the other and zeros up to a whole register block: where they lie, or a copy.
  template <class Query>
  static const element* queries(element* copy, const Query& query, i64 batch, i64 row0, i64 rows) {
    if constexpr (std::is_same_v<typename Query::value_type, element>) {
      if (query.k_stride == 1 && query.outer_stride == query_stride && head == query_stride && rows % key_rows == 0) return query.at(batch, row0, 0);
    }
    for (i64 i = 0; i < rows; ++i) {
      element* const to = copy + i * query_stride;
      if constexpr (!pairs) {
        query.template copy_line<head>(to, batch, row0 + i);
      } else if (query.k_stride == 1) {
        __builtin_memcpy(to, query.at(batch, row0 + i, 0), head * sizeof(element));
      } else {
        for (i64 k = 0; k < head; ++k) to[k] = *query.at(batch, row0 + i, k);
      }
      for (i64 k = head; k < query_stride; ++k) to[k] = element{};
    }
    for (i64 i = rows * query_stride; i < query_size; ++i) copy[i] = element{};
    return copy;
  }

  /// each(row, n, rows, columns, const float* sums, ld) takes the products of the strip's rows with `count` packed keys; before(panel) is called first.
  template <class Before, class Each>
  static void multiply_keys(const element* queries, i64 rows, const element* panels, i64 count, const Before& before, const Each& each) {
    for (i64 n = 0; n < count; n += key_columns) {
      const element* const panel = panels + n * query_stride;
      before(n / key_columns);
      if (last_is_narrow(n)) {
        multiply_panel<last_vectors>(queries, rows, panel, n, count - n, each);
      } else if (count - n < key_columns) {
        multiply_panel<key_vectors>(queries, rows, panel, n, count - n, each);
      } else {
        multiply_panel<key_vectors>(queries, rows, panel, n, std::integral_constant<i64, key_columns>{}, each);
      }
    }
  }

  /// Adds the products of the rows' powers, which zeros follow up to whole vectors, with `count` packed values to what the sums are, or makes the sums of
  /// them; see sums_at(). Powers become anything.
  static void multiply_values(float* powers, i64 rows, const element* panels, i64 count, float* sums, bool accumulate) {
    static constexpr i64 nowhere[1] = {0}, row = stride * i64{sizeof(float)} / i64{sizeof(element)};
    const i64 depth = padded(count), pieces = (count + chain - 1) / chain, piece = padded((count + pieces - 1) / pieces);
    const i64 filled = (rows + value_rows - 1) / value_rows * value_rows;
    auto* const left = reinterpret_cast<element*>(powers);
    if constexpr (pairs)
      for (i64 i = 0; i < rows; ++i) narrow_row(powers + i * stride, vectors_of(count) * lanes<float>, left + i * row);
    for (i64 i = rows; i < filled; ++i)
      for (i64 j = 0; j < depth; ++j) left[i * row + j] = element{};
    Ahead ahead;
    for (i64 p = 0; p < value_panels; ++p) {
      for (i64 k = 0; k < depth; k += piece) {
        const auto* const panel = reinterpret_cast<const Lane*>(panels + (p * depth + k) * value_columns);
        for (i64 i = 0; i < filled; i += value_rows)
          RowBlock<float, value_rows, value_vectors, row, Lane>::multiply(1, piece < depth - k ? piece : depth - k, left + i * row + k, nowhere, panel,
                                                                          sums_at(sums, p, i), ahead, accumulate || k > 0);
      }
    }
  }
  /// The sums of a strip: value_columns of all rows, then the next.
  static float* sums_at(float* sums, i64 p, i64 row) { return sums + (p * strip + row) * value_columns; }

 private:
  static constexpr bool last_is_narrow(i64 n) { return last_vectors != key_vectors && n / key_columns == key_panels - 1; }

  /// Panels of `width` columns: steps of k, zeros for columns and k that there are not.
  template <i64 width, class Matrix>
  static void pack(element* to, const Matrix& matrix, i64 batch, i64 outer0, i64 outers, i64 k0, i64 depth) {
    if constexpr (!pairs) {
      matrix.template pack<width>(to, batch, outer0, outers, k0, depth);
    } else if constexpr (width % detail::pair_columns == 0) {
      constexpr i64 most = 16;
      auto* rows = reinterpret_cast<Lane*>(to);
      const i64 steps = dot_steps(depth, Atom::group);
      for (i64 step = 0; step < steps; step += most, rows += most * width)
        for (i64 j = 0; j < width; j += detail::pair_columns)
          detail::pack_pairs<width>(rows + j, most < steps - step ? most : steps - step, matrix, batch, outer0 + j, outers - j, k0 + 2 * step,
                                    depth - 2 * step);
    } else {
      for (i64 k = 0; k < padded(depth); ++k)
        for (i64 j = 0; j < width; ++j) to[(k / 2 * width + j) * 2 + k % 2] = k < depth && j < outers ? *matrix.at(batch, outer0 + j, k0 + k) : element{};
    }
  }

  template <int vectors, class Columns, class Each>
  static void multiply_panel(const element* queries, i64 rows, const element* panel, i64 n, Columns columns, const Each& each) {
    static constexpr i64 nowhere[1] = {0};
    constexpr i64 width = vectors * lanes<float>;
    alignas(64) float tile[key_rows * width];
    Ahead ahead;
    for (i64 i = 0; i < rows; i += key_rows) {
      RowBlock<float, key_rows, vectors, query_stride, Lane>::multiply(1, query_stride, queries + i * query_stride, nowhere,
                                                                       reinterpret_cast<const Lane*>(panel), tile, ahead);
      each(i, n, key_rows < rows - i ? i64{key_rows} : rows - i, columns, static_cast<const float*>(tile), std::integral_constant<i64, width>{});
    }
  }
};

}  // namespace tile
