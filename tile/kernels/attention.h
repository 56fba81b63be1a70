#pragma once

// Attention in one pass over keys and values:
//   out[b, m, :] = Σn p[b, m, n] · value(b, n, :),  p[b, m, :] = softmax over n of scores(Σd query(b, m, d) · key(b, n, d))
// The matrix of scores is never stored. A task takes the rows of a stretch of queries; keys and values pass in blocks, packed for the
// register block, while a strip of rows holds its scores of one block near the core. Where there are several blocks, each row keeps the
// largest score so far and the sum of its powers, and what was summed with a smaller one is scaled (Milakov and Gimelshein, "Online
// normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022). Up to four rows read keys and values where they lie.

#include <cstdint>
#include <type_traits>

#include "tile/atoms/row_block.h"
#include "tile/exec/args.h"
#include "tile/kernels/contract.h"
#include "tile/kernels/matvec.h"
#include "tile/kernels/operands.h"
#include "tile/math.h"

namespace tile {

/// What a call computes: `rows` queries for each of `batch` entries, against `keys` keys.
struct AttentionExtents {
  i64 batch, rows, keys;
};

/// How attention is cut. `head`, `value_head`: elements of a key and of a value; `keys`: their number where it is a constant, else 0;
/// `block_limit`: keys of a block, at most.
template <i64 head_, i64 value_head_, i64 keys = 0, i64 block_limit = 512>
struct AttentionBlocks {
  static constexpr i64 head = head_, value_head = value_head_;
  static constexpr int most_vectors = vector_registers == 32 ? 4 : 2;
  /// Rows that hold their scores of a block at a time: a multiple of every register block's.
  static constexpr i64 strip = 24;
  /// Rows of the register block with so many vectors of columns.
  static constexpr int rows_beside(int vectors) { return (vector_registers == 32 ? 24 : 12) / vectors; }

  static constexpr i64 vectors_of(i64 columns) { return (columns + lanes<float> - 1) / lanes<float>; }
  static constexpr i64 panels_of(i64 columns) { return (vectors_of(columns) + most_vectors - 1) / most_vectors; }
  static constexpr int panel_vectors(i64 columns) { return static_cast<int>((vectors_of(columns) + panels_of(columns) - 1) / panels_of(columns)); }

  static constexpr i64 blocks = keys > 0 ? (keys - 1) / block_limit + 1 : 1;
  static constexpr i64 block_keys = keys > 0 ? (keys - 1) / blocks + 1 : block_limit;
  /// Panels of keys, and the last one where it is known to be narrower.
  static constexpr int key_vectors = vectors_of(block_keys) < most_vectors ? static_cast<int>(vectors_of(block_keys)) : most_vectors;
  static constexpr i64 key_columns = key_vectors * lanes<float>, key_panels = (block_keys - 1) / key_columns + 1;
  static constexpr int last_vectors = keys > 0 ? static_cast<int>(vectors_of(block_keys) - (key_panels - 1) * key_vectors) : key_vectors;
  static constexpr int key_rows = rows_beside(key_vectors);
  /// Panels of values: whole blocks of keys, a few columns each.
  static constexpr int value_vectors = panel_vectors(value_head);
  static constexpr i64 value_columns = value_vectors * lanes<float>, value_panels = panels_of(value_head);
  static constexpr int value_rows = rows_beside(value_vectors);
  /// From one row of scores to the next: a cache line more, so that rows do not meet in the same sets.
  static constexpr i64 stride = key_panels * key_columns + lanes<float>;
};

namespace detail {

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

template <class Blocks, class Query, class Key, class Value, class Scores, class Weight, class Epilogue>
class StreamedAttention {
  static constexpr i64 head = Blocks::head, value_head = Blocks::value_head, strip = Blocks::strip, stride = Blocks::stride;
  static constexpr i64 key_columns = Blocks::key_columns, value_columns = Blocks::value_columns;
  static constexpr i64 value_rows = Blocks::value_rows;
  static constexpr i64 totals_size = static_cast<i64>(sizeof(RowTotals<strip>) / sizeof(float));
  static constexpr i64 sums_of_strip = strip * value_columns * Blocks::value_panels;
  /// Keys, at most, whose values stay in the first level cache while the rows of a strip pass.
  static constexpr i64 chain = 128;
  /// Queries of a task, at most: their sums lie in the second level cache.
  static constexpr i64 task_rows_limit = 20 * strip;

 public:
  StreamedAttention(const AttentionExtents& extents, const Query& query, const Key& key, const Value& value, const Scores& scores, const Weight& weight,
                    const Epilogue& epilogue, Team& team)
      : extents_(extents), query_(query), key_(key), value_(value), scores_(scores), weight_(weight), epilogue_(epilogue), team_(team) {}

  void run() {
    const i64 blocks = ceil_div(extents_.keys, Blocks::block_keys);
    block_ = ceil_div(extents_.keys, blocks);
    block_ = least(ceil_div(block_, key_columns) * key_columns, Blocks::block_keys);
    // Rows are cut until all threads have their share; each task packs the keys and values anew.
    const i64 strips = ceil_div(extents_.rows, strip);
    i64 cuts = ceil_div(strips * strip, task_rows_limit);
    if (extents_.batch * cuts % team_.size != 0) cuts = most(cuts, least(ceil_div(i64{4} * team_.size, extents_.batch), ceil_div(strips, 2)));
    const i64 task_rows = ceil_div(strips, cuts) * strip;
    cuts = ceil_div(extents_.rows, task_rows);
    team_.for_each(extents_.batch * cuts, [&](i64 index, int worker) {
      const i64 first = index % cuts * task_rows;
      task(index / cuts, first, least(first + task_rows, extents_.rows), worker);
    });
  }

 private:
  struct Memory {
    float *keys, *values, *queries, *scores, *sums;
    RowTotals<strip>* totals;
  };

  void task(i64 batch, i64 first, i64 end, int worker) const {
    const bool several = extents_.keys > block_;
    const i64 kept_strips = several ? ceil_div(end - first, strip) : 1;
    Memory m{};
    constexpr i64 key_size = Blocks::key_panels * key_columns * head, value_size = Blocks::value_panels * value_columns * Blocks::block_keys;
    float* at =
        team_.scratch_as<float>(worker, key_size + align(value_size) + align(strip * head) + strip * stride + kept_strips * (sums_of_strip + totals_size) + 16);
    const auto take = [&](i64 count) {
      float* const here = at;
      at += align(count);
      return here;
    };
    m.keys = take(key_size);
    m.values = take(value_size);
    m.queries = take(strip * head);
    m.scores = take(strip * stride);
    m.sums = take(kept_strips * sums_of_strip);
    m.totals = reinterpret_cast<RowTotals<strip>*>(take(kept_strips * totals_size));
    for (i64 key0 = 0; key0 < extents_.keys; key0 += block_) {
      const i64 count = least(block_, extents_.keys - key0);
      pack_keys(m.keys, batch, key0, count);
      for (i64 p = 0; p < Blocks::value_panels; ++p) {
        const i64 column = p * value_columns;
        value_.template pack<value_columns>(m.values + p * value_columns * count, batch, column, least(value_columns, value_head - column), key0, count);
      }
      Memory here = m;
      for (i64 row0 = first; row0 < end; row0 += strip) {
        one_strip(here, batch, row0, least(strip, end - row0), least(strip, end - row0 - strip), key0, count);
        if (!several) continue;
        here.sums += sums_of_strip;
        ++here.totals;
      }
    }
  }

  static constexpr i64 align(i64 count) { return (count + 15) / 16 * 16; }

  void pack_keys(float* to, i64 batch, i64 key0, i64 count) const {
    for (i64 n = 0; n < count; n += key_columns, to += key_columns * head) {
      if (Blocks::last_vectors != Blocks::key_vectors && n / key_columns == Blocks::key_panels - 1) {
        key_.template pack<Blocks::last_vectors * lanes<float>>(to, batch, key0 + n, count - n, 0, head);
      } else {
        key_.template pack<key_columns>(to, batch, key0 + n, least(key_columns, count - n), 0, head);
      }
    }
  }

  /// `rows` rows from `row0` on meet the `count` keys of one block; `next` rows of the strip after them come nearer meanwhile.
  void one_strip(const Memory& m, i64 batch, i64 row0, i64 rows, i64 next, i64 key0, i64 count) const {
    const float* const queries = queries_of(m, batch, row0, rows);
    for (i64 n = 0; n < count; n += key_columns) {
      const float* const panel = m.keys + n * head;
      for (i64 i = n / key_columns; i < next; i += ceil_div(count, key_columns)) query_.template fetch_line<head>(batch, row0 + strip + i);
      if (Blocks::last_vectors != Blocks::key_vectors && n / key_columns == Blocks::key_panels - 1) {
        score<Blocks::last_vectors>(m, queries, panel, batch, row0, rows, key0, n, count - n);
      } else if (count - n < key_columns) {
        score<Blocks::key_vectors>(m, queries, panel, batch, row0, rows, key0, n, count - n);
      } else {
        score<Blocks::key_vectors>(m, queries, panel, batch, row0, rows, key0, n, std::integral_constant<i64, key_columns>{});
      }
    }

    alignas(64) float scale[ceil_div(strip, lanes<float>) * lanes<float>];
    const i64 filled = ceil_div(rows, value_rows) * value_rows;
    if (key0 == 0) m.totals->begin();
    m.totals->add(m.scores, stride, rows, count, scale);
    for (i64 i = rows; i < filled; ++i) {
      scale[i] = 0;
      for (i64 j = 0; j < count; ++j) m.scores[i * stride + j] = 0;
    }

    if (key0 > 0) multiply_rows_by(scale, filled, m.sums);
    static constexpr i64 nowhere[1] = {0};
    Ahead ahead;
    const i64 piece = ceil_div(count, ceil_div(count, chain));
    for (i64 p = 0; p < Blocks::value_panels; ++p) {
      for (i64 k = 0; k < count; k += piece) {
        const float* const panel = m.values + (p * count + k) * value_columns;
        for (i64 i = 0; i < filled; i += value_rows)
          RowBlock<float, value_rows, Blocks::value_vectors, stride>::multiply(1, least(piece, count - k), m.scores + i * stride + k, nowhere, panel,
                                                                               sums_at(m.sums, p, i), ahead, key0 + k > 0);
      }
    }
    if (key0 + count < extents_.keys) return;
    for (i64 i = 0; i < rows; ++i) finish(m, i, weight_(batch, row0 + i, m.totals->total(i)) == 0);
    for (i64 p = 0; p < Blocks::value_panels; ++p)
      for (i64 i = 0; i < rows; i += value_rows)
        epilogue_(batch, row0 + i, p * value_columns, least(value_rows, rows - i), least(value_columns, value_head - p * value_columns),
                  static_cast<const float*>(sums_at(m.sums, p, i)), std::integral_constant<i64, value_columns>{});
  }

  /// The rows' queries, one behind the other and zeros up to a whole register block: where they lie, or a copy.
  const float* queries_of(const Memory& m, i64 batch, i64 row0, i64 rows) const {
    if constexpr (std::is_same_v<typename Query::value_type, float>) {
      if (query_.k_stride == 1 && query_.outer_stride == head && rows % Blocks::key_rows == 0) return query_.at(batch, row0, 0);
    }
    for (i64 i = 0; i < rows; ++i) query_.template copy_line<head>(m.queries + i * head, batch, row0 + i);
    for (i64 i = rows * head; i < strip * head; ++i) m.queries[i] = 0;
    return m.queries;
  }

  /// Products of the strip's rows with one panel of keys, as the model scores them.
  template <int vectors, class Columns>
  void score(const Memory& m, const float* queries, const float* panel, i64 batch, i64 row0, i64 rows, i64 key0, i64 n, Columns columns) const {
    static constexpr i64 nowhere[1] = {0};
    constexpr i64 block_rows = Blocks::key_rows, width = vectors * lanes<float>;
    alignas(64) float tile[block_rows * width];
    Ahead ahead;
    for (i64 i = 0; i < rows; i += block_rows) {
      RowBlock<float, block_rows, vectors, head>::multiply(1, head, queries + i * head, nowhere, panel, tile, ahead);
      scores_(batch, row0 + i, key0 + n, least(block_rows, rows - i), columns, static_cast<const float*>(tile), std::integral_constant<i64, width>{},
              m.scores + i * stride + n, stride);
    }
  }

  /// The sums of a strip: register blocks of one panel after another.
  static float* sums_at(float* sums, i64 p, i64 row) { return sums + (p * strip + row) * value_columns; }

  /// Sums become the row's results: quotients by way of 1 / total, which lies between 0 and 1, and what that leaves over.
  static void finish(const Memory& m, i64 i, bool zero) {
    const float total = m.totals->total(i), inverse = 1.0f / total;
    for (i64 p = 0; p < Blocks::value_panels; ++p) {
      float* const row = sums_at(m.sums, p, i);
#pragma omp simd
      for (i64 j = 0; j < value_columns; ++j) {
        const float near = row[j] * inverse;
        const float quotient = __builtin_fabsf(near) < infinity ? near + __builtin_fmaf(-near, total, row[j]) * inverse : near;
        row[j] = zero ? 0.0f : quotient;
      }
    }
  }

  static void multiply_rows_by(const float* scale, i64 rows, float* sums) {
    for (i64 p = 0; p < Blocks::value_panels; ++p)
      for (i64 i = 0; i < rows; ++i) {
        float* const row = sums_at(sums, p, i);
        const float by = scale[i];
#pragma omp simd
        for (i64 j = 0; j < value_columns; ++j) row[j] *= by;
      }
  }

  const AttentionExtents extents_;
  const Query& query_;
  const Key& key_;
  const Value& value_;
  const Scores& scores_;
  const Weight& weight_;
  const Epilogue& epilogue_;
  Team& team_;
  i64 block_ = 0;
};

/// The most rows that read keys and values where they lie.
inline constexpr i64 few_queries = 4;

/// Few rows: keys and values are read once, in order. False where they do not lie side by side in any direction.
template <class Blocks, class Query, class Key, class Value, class Scores, class Weight, class Epilogue>
bool attend_few(const AttentionExtents& extents, const Query& query, const Key& key, const Value& value, const Scores& scores, const Weight& weight,
                const Epilogue& epilogue, Team& team) {
  const bool key_lines = key.k_stride == 1, value_columns = value.outer_stride == 1;
  if (extents.rows > few_queries || !(key_lines || key.outer_stride == 1) || !(value_columns || value.k_stride == 1)) return false;
  const i64 rows = extents.rows, keys = extents.keys;
  constexpr i64 head = Blocks::head, value_head = Blocks::value_head;
  team.for_each(extents.batch, [&](i64 batch, int worker) {
    const i64 stride = ceil_div(keys, lanes<float>) * lanes<float>;
    float* const queries = team.scratch_as<float>(worker, rows * (head + keys + stride));
    float* const weights = queries + rows * head;
    float* const powers = weights + rows * keys;
    for (i64 i = 0; i < rows; ++i) query.template copy_line<head>(queries + i * head, batch, i);
    // Columns of one row, or lines for all: products come as the epilogue of a matrix product would take them.
    const auto product = [&](i64 first_row, const float* left, i64 depth, i64 count, bool lines, const auto& right, const auto& done) {
      const auto shifted = [&](i64, i64, i64 n0, i64 many, i64 columns, const float* sums, i64 ld) { done(first_row, n0, many, columns, sums, ld); };
      if (lines) return dot_lines<float>(batch, rows, 0, count, depth, left, right, shifted);
      stream_columns<1, float>(batch, 1, 0, count, depth, left, right, shifted);
    };
    const auto keep = [&](i64 row, i64 n0, i64 many, i64 columns, const float* sums, i64 ld) {
      scores(batch, row, n0, many, columns, sums, ld, powers + row * stride + n0, stride);
    };
    for (i64 i = 0; i < (key_lines ? 1 : rows); ++i) product(i, queries + i * head, head, keys, key_lines, key, keep);
    RowTotals<few_queries> totals;
    alignas(64) float unused[ceil_div(few_queries, lanes<float>) * lanes<float>];
    totals.begin();
    totals.add(powers, stride, rows, keys, unused);
    for (i64 i = 0; i < rows; ++i) {
      const float total = totals.total(i);
      const bool zero = weight(batch, i, total) == 0;
#pragma omp simd
      for (i64 j = 0; j < keys; ++j) weights[i * keys + j] = zero ? 0.0f : powers[i * stride + j] / total;
    }
    const auto give = [&](i64 row, i64 n0, i64 many, i64 columns, const float* sums, i64 ld) { epilogue(batch, row, n0, many, columns, sums, ld); };
    for (i64 i = 0; i < (value_columns ? rows : 1); ++i) product(i, weights + i * keys, keys, value_head, !value_columns, value, give);
  });
  return true;
}

}  // namespace detail

/// Computes attention over `extents` in float. `query`: Dense over (batch, row, d); `key`: Dense over (batch, key, d); `value`: Dense over
/// (batch, column, key). What the model does beside the products comes from three functions, called from any of the team's threads:
///   scores(i64 batch, i64 row0, i64 key0, i64 rows, columns, const float* sums, ld, float* to, i64 to_ld)
/// turns the products of rows and keys, sums[i * ld + j], into scores, to[i * to_ld + j];
///   weight(i64 batch, i64 row, float total) -> float
/// gives what becomes of a power of one where powers add up to `total`: 1 / total, or 0 for a row of zeros;
///   epilogue(i64 batch, i64 row0, i64 column0, i64 rows, i64 columns, const float* sums, ld)
/// takes results as that of contract() does, each element once. Without keys all results are zero.
template <class Blocks, class Query, class Key, class Value, class Scores, class Weight, class Epilogue>
void attention(const AttentionExtents& extents, const Query& query, const Key& key, const Value& value, const Scores& scores, const Weight& weight,
               const Epilogue& epilogue, Team& team) {
  static_assert(detail::is_dense<Query> && detail::is_dense<Key> && detail::is_dense<Value>, "queries, keys and values are strided matrices");
  if (extents.batch <= 0 || extents.rows <= 0) return;
  if (extents.keys <= 0) return detail::give_zeros<float>({extents.batch, extents.rows, Blocks::value_head, 0}, epilogue, team);
  if (detail::attend_few<Blocks>(extents, query, key, value, scores, weight, epilogue, team)) return;
  detail::StreamedAttention<Blocks, Query, Key, Value, Scores, Weight, Epilogue>(extents, query, key, value, scores, weight, epilogue, team).run();
}

}  // namespace tile
