#pragma once

// Attention in one pass over keys and values:
//   out[b, m, :] = Σn p[b, m, n] · value(b, n, :),  p[b, m, :] = softmax over n of scores(Σd query(b, m, d) · key(b, n, d))
// The matrix of scores is never stored. A task takes the rows of a stretch of queries; keys and values pass in blocks, packed for the
// register block, while a strip of rows holds its scores of one block near the core. Where there are several blocks, each row keeps the
// largest score so far and the sum of its powers, and what was summed with a smaller one is scaled (Milakov and Gimelshein, "Online
// normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022). Up to four rows read keys and values where they lie.

#include <cstdint>
#include <type_traits>

#include "tile/exec/args.h"
#include "tile/kernels/attention_blocks.h"
#include "tile/kernels/attention_tiles.h"
#include "tile/kernels/contract.h"
#include "tile/kernels/matvec.h"
#include "tile/kernels/operands.h"
#include "tile/kernels/row_totals.h"

namespace tile {

/// What a call computes: `rows` queries for each of `batch` entries, against `keys` keys.
struct AttentionExtents {
  i64 batch, rows, keys;
};

namespace detail {

template <class Blocks, class Query, class Key, class Value, class Scores, class Weight, class Epilogue>
class StreamedAttention {
  using E = typename Blocks::element;
  static constexpr i64 head = Blocks::head, value_head = Blocks::value_head, strip = Blocks::strip, stride = Blocks::stride;
  static constexpr i64 key_columns = Blocks::key_columns, value_columns = Blocks::value_columns;
  static constexpr i64 value_rows = Blocks::value_rows;
  static constexpr i64 sums_size = strip * value_columns * Blocks::value_panels;
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
    E *keys, *values, *queries;
    float *scores, *sums;
    RowTotals<strip>* totals;
  };

  /// Points into memory from `base` on, if there is any, and returns how many bytes that takes.
  static i64 lay_out(Memory& m, char* base, i64 kept_strips) {
    i64 used = 0;
    const auto take = [&]<class T>(T*& part, i64 count) {
      if (base != nullptr) part = reinterpret_cast<T*>(base + used);
      used += ceil_div(count * static_cast<i64>(sizeof(T)), 64) * 64;
    };
    take(m.keys, Blocks::key_size), take(m.values, Blocks::value_size), take(m.queries, Blocks::query_size);
    take(m.scores, strip * stride), take(m.sums, kept_strips * sums_size), take(m.totals, kept_strips);
    return used;
  }

  void task(i64 batch, i64 first, i64 end, int worker) const {
    const bool several = extents_.keys > block_;
    const i64 kept_strips = several ? ceil_div(end - first, strip) : 1;
    Memory m{};
    lay_out(m, team_.scratch_as<char>(worker, lay_out(m, nullptr, kept_strips)), kept_strips);
    for (i64 key0 = 0; key0 < extents_.keys; key0 += block_) {
      const i64 count = least(block_, extents_.keys - key0);
      Blocks::pack_keys(m.keys, key_, batch, key0, count);
      Blocks::pack_values(m.values, value_, batch, key0, count);
      Memory here = m;
      for (i64 row0 = first; row0 < end; row0 += strip) {
        one_strip(here, batch, row0, least(strip, end - row0), least(strip, end - row0 - strip), key0, count);
        if (!several) continue;
        here.sums += sums_size;
        ++here.totals;
      }
    }
  }

  /// `rows` rows from `row0` on meet the `count` keys of one block; `next` rows of the strip after them come nearer meanwhile.
  void one_strip(const Memory& m, i64 batch, i64 row0, i64 rows, i64 next, i64 key0, i64 count) const {
    Blocks::multiply_keys(
        Blocks::queries(m.queries, query_, batch, row0, rows), rows, m.keys, count,
        [&](i64 panel) {
          for (i64 i = panel; i < next; i += ceil_div(count, key_columns)) query_.template fetch_line<head>(batch, row0 + strip + i);
        },
        [&](i64 row, i64 n, i64 some, auto columns, const float* sums, auto ld) {
          scores_(batch, row0 + row, key0 + n, some, columns, sums, ld, m.scores + row * stride + n, stride);
        });

    alignas(64) float scale[ceil_div(strip, lanes<float>) * lanes<float>];
    if (key0 == 0) m.totals->begin();
    m.totals->add(m.scores, stride, rows, count, scale);
    if (key0 > 0) multiply_rows_by(scale, rows, m.sums);
    Blocks::multiply_values(m.scores, rows, m.values, count, m.sums, key0 > 0);
    if (key0 + count < extents_.keys) return;
    for (i64 i = 0; i < rows; ++i) finish(m, i, weight_(batch, row0 + i, m.totals->total(i)) == 0);
    for (i64 p = 0; p < Blocks::value_panels; ++p)
      for (i64 i = 0; i < rows; i += value_rows)
        epilogue_(batch, row0 + i, p * value_columns, least(value_rows, rows - i), least(value_columns, value_head - p * value_columns),
                  static_cast<const float*>(Blocks::sums_at(m.sums, p, i)), std::integral_constant<i64, value_columns>{});
  }

  /// Sums become the row's results: quotients by way of 1 / total, which lies between 0 and 1, and what that leaves over.
  static void finish(const Memory& m, i64 i, bool zero) {
    const float total = m.totals->total(i), inverse = 1.0f / total;
    for (i64 p = 0; p < Blocks::value_panels; ++p) {
      float* const row = Blocks::sums_at(m.sums, p, i);
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
        float* const row = Blocks::sums_at(sums, p, i);
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

/// Computes attention over `extents`, sums in float, by Blocks: AttentionBlocks, or on tile registers AmxAttentionBlocks. `query`: Dense over (batch, row, d);
/// `key`: Dense over (batch, key, d); `value`: Dense over (batch, column, key). What the model does beside the products comes from three functions, called from
/// any of the team's threads:
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
  static_assert(std::is_same_v<typename Blocks::element, float> || (std::is_same_v<typename Blocks::element, typename Query::value_type> &&
                                                                    std::is_same_v<typename Blocks::element, typename Key::value_type> &&
                                                                    std::is_same_v<typename Blocks::element, typename Value::value_type>),
                "bfloats are multiplied as they are stored: queries, keys and values must be of the blocks' element");
  if (extents.batch <= 0 || extents.rows <= 0) return;
  if (extents.keys <= 0) return detail::give_zeros<float>({extents.batch, extents.rows, Blocks::value_head, 0}, epilogue, team);
  if (detail::attend_few<Blocks>(extents, query, key, value, scores, weight, epilogue, team)) return;
  detail::StreamedAttention<Blocks, Query, Key, Value, Scores, Weight, Epilogue>(extents, query, key, value, scores, weight, epilogue, team).run();
}

}  // namespace tile
