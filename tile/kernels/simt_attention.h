#pragma once

// Attention on SIMT machines, in one pass over keys and values:
//   out[b, m, :] = Σn p[b, m, n] · value(b, n, :),  p[b, m, :] = softmax over n of score(Σd query(b, m, d) · key(b, n, d))
// The matrix of scores is never stored. A block of threads takes 64 queries; keys and values pass in tiles held in shared memory, and each row
// keeps the largest score so far and the sum of its powers (sources: see tile/kernels/attention.h). Few queries leave most of a GPU
// without work: their keys are cut into parts, and a second launch combines what the parts found.
//
// All kernels take what the model does beside the products from three functions of joint indices:
//   score(batch, row, key, sum) -> float           the score that a product becomes
//   weight(batch, row, total) -> float             what becomes of a power of one where powers add up to `total`: 1 / total, or 0 for a row of zeros
//   store(batch, row, column, value)               gets every result once
// Without keys all results are zero.

#include "tile/atoms/mfma.h"
#include "tile/atoms/mma.h"
#include "tile/math.h"

namespace tile::simt {

/// What a call computes: `rows` queries for each of `batch` entries, against `keys` keys.
struct AttentionExtents {
  i64 batch = 1, rows = 1, keys = 1;
};

/// Queries, keys or values: element i of vector `line` is start(batch)[line * stride + i * step]. `along`: step is 1. `whole`: vectors are
/// whole pieces of 16 bytes at multiples of 16 bytes, too.
template <bool along_, bool whole_, class Start>
struct Vectors {
  static constexpr bool along = along_, whole = whole_;
  static_assert(along || !whole, "elements of a 16-byte piece are neighbours in memory");
  Start start;
  i64 stride, step;

  TILE_INLINE i64 place(i64 line, i64 i) const { return line * stride + (along ? i : i * step); }
};
template <bool along, bool whole, class Start>
TILE_DEVICE Vectors<along, whole, Start> vectors(Start start, i64 stride, i64 step) {
  return {start, stride, step};
}

namespace detail {

using tile::detail::exp_to_one;
using tile::detail::infinity;
using tile::detail::quiet_nan;

/// What powers are taken relative to. Nothing but -∞ so far: powers are zeros until something larger comes.
TILE_INLINE float base_of(float largest) { return largest == -infinity ? 0.0f : largest; }
/// The sum that softmax divides by: not a number where all scores are -∞.
TILE_INLINE float divisor_of(float largest, float sum) { return largest == -infinity ? quiet_nan : sum; }

struct Larger {
  TILE_INLINE float operator()(float a, float b) const { return b > a ? b : a; }
};
struct Plus {
  TILE_INLINE float operator()(float a, float b) const { return a + b; }
};

/// combine over the `lanes` neighbouring lanes that share a row, the same result in each.
template <int lanes, class Exec, class F>
TILE_DEVICE float over_lanes(Exec& ex, float value, const F& combine) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(ex, value, mask));
  return value;
}

constexpr int attention_shared_limit = 48 << 10;  // what every block may have

}  // namespace detail

/// By multiply-add, one value a lane: every dtype, every machine. A block has 16 × 16 threads with 4 × 4 scores each.
template <int head, int value_head>
struct FmaAttention {
  static constexpr int rows = 64, keys = 64, depth = 16, side = 16, each = rows / side, threads = side * side;
  static constexpr int value_each = (value_head + side - 1) / side, columns = value_each * side;
  /// From one row to the next in shared memory: one more than the tile, so that a column's elements are in different banks.
  static constexpr int pitch = keys + 1;
  static constexpr int floats_of_powers = rows * pitch, floats_of_slice = depth * pitch, floats_of_values = depth * columns;
  static constexpr int shared_bytes = 4 * (floats_of_powers + (2 * floats_of_slice > floats_of_values ? 2 * floats_of_slice : floats_of_values));
  static constexpr bool fits = value_head <= 256 && shared_bytes <= detail::attention_shared_limit;

  static TILE_INLINE i64 blocks(const AttentionExtents& e) { return e.batch * ((e.rows + rows - 1) / rows); }

  template <class Exec, class Query, class Key, class Value, class Score, class Weight, class Store>
  static TILE_DEVICE void run(Exec& ex, const AttentionExtents& e, const Query& query, const Key& key, const Value& value, const Score& score,
                              const Weight& weight, const Store& store) {
    const i64 cuts = (e.rows + rows - 1) / rows, batch = ex.block() / cuts, row0 = ex.block() % cuts * rows;
    const auto queries = query.start(batch);
    const auto all_keys = key.start(batch);
    const auto values = value.start(batch);
    const int row = ex.thread() / side, column = ex.thread() % side;
    const auto to_powers = ex.template shared<float>(0, floats_of_powers), to_values = ex.template shared<float>(4 * floats_of_powers, floats_of_values);
    const auto powers = ex.template shared<const float>(0, floats_of_powers),
               value_tile = ex.template shared<const float>(4 * floats_of_powers, floats_of_values);
    float largest[each], total[each] = {}, sums[each][value_each] = {};
    for (float& one : largest) one = -detail::infinity;

    for (i64 key0 = 0; key0 < e.keys; key0 += keys) {
      float scores[each][each] = {};
      multiply(ex, scores, query, queries, row0, e.rows, key, all_keys, key0, e.keys);
      for (int i = 0; i < each; ++i) {
        const i64 m = row0 + row + i * side;
        float top = largest[i];
        for (int j = 0; j < each; ++j) {
          const i64 n = key0 + column + j * side;
          scores[i][j] = m < e.rows && n < e.keys ? score(batch, m, n, scores[i][j]) : -detail::infinity;
          top = detail::Larger()(top, scores[i][j]);
        }
        top = detail::over_lanes<side>(ex, top, detail::Larger());
        const float base = detail::base_of(top), scale = detail::exp_to_one(largest[i] - base);
        float here = 0;
        for (int j = 0; j < each; ++j) {
          const float power = detail::exp_to_one(scores[i][j] - base);
          to_powers[(row + i * side) * pitch + column + j * side] = power;
          here += power;
        }
        largest[i] = top;
        total[i] = total[i] * scale + here;
        for (float& sum : sums[i]) sum *= scale;
      }
      for (int k0 = 0; k0 < keys && key0 + k0 < e.keys; k0 += depth) {
        for (int at = ex.thread(); at < floats_of_values; at += threads) {
          const int k = Value::along ? at / columns : at % depth, c = Value::along ? at % columns : at / depth;
          const i64 n = key0 + k0 + k;
          to_values[k * columns + c] = n < e.keys && c < value_head ? load_as<float>(values[value.place(n, c)]) : 0.0f;
        }
        ex.sync();
        for (int k = 0; k < depth; ++k) {
          float a[each];
          for (int i = 0; i < each; ++i) a[i] = powers[(row + i * side) * pitch + k0 + k];
          for (int c = 0; c < value_each; ++c) {
            const float b = value_tile[k * columns + column + c * side];
            for (int i = 0; i < each; ++i) sums[i][c] = a[i] * b + sums[i][c];
          }
        }
        ex.sync();
      }
    }
    for (int i = 0; i < each; ++i) {
      const i64 m = row0 + row + i * side;
      const float divisor = detail::divisor_of(largest[i], detail::over_lanes<side>(ex, total[i], detail::Plus()));
      if (m >= e.rows) continue;
      const bool zero = e.keys == 0 || weight(batch, m, divisor) == 0;
      for (int c = 0; c < value_each; ++c)
        if (column + c * side < value_head) store(batch, m, column + c * side, zero ? 0.0f : sums[i][c] / divisor);
    }
  }

 private:
  /// scores += queries · keysᵀ of one tile.
  template <class Exec, class Query, class Queries, class Key, class Keys>
  static TILE_DEVICE void multiply(Exec& ex, float (&scores)[each][each], const Query& query, const Queries& queries, i64 row0, i64 row_count, const Key& key,
                                   const Keys& all_keys, i64 key0, i64 key_count) {
    constexpr int left_at = 4 * floats_of_powers, right_at = left_at + 4 * floats_of_slice;
    const auto left = ex.template shared<const float>(left_at, floats_of_slice), right = ex.template shared<const float>(right_at, floats_of_slice);
    const int row = ex.thread() / side, column = ex.thread() % side;
    for (int d0 = 0; d0 < head; d0 += depth) {
      fetch(ex, left_at, query, queries, row0, row_count, d0);
      fetch(ex, right_at, key, all_keys, key0, key_count, d0);
      ex.sync();
      for (int d = 0; d < depth; ++d) {
        float a[each], b[each];
        for (int i = 0; i < each; ++i) a[i] = left[d * pitch + row + i * side], b[i] = right[d * pitch + column + i * side];
        for (int i = 0; i < each; ++i)
          for (int j = 0; j < each; ++j) scores[i][j] = a[i] * b[j] + scores[i][j];
      }
      ex.sync();
    }
  }

  /// A slice of vectors from memory to shared memory, each thread some of its elements.
  template <class Exec, class From, class Start>
  static TILE_DEVICE void fetch(Exec& ex, int byte, const From& from, const Start& start, i64 line0, i64 lines, int d0) {
    const auto to = ex.template shared<float>(byte, floats_of_slice);
    for (int at = ex.thread(); at < keys * depth; at += threads) {
      const int i = From::along ? at / depth : at % keys, d = From::along ? at % depth : at / keys;
      to[d * pitch + i] = line0 + i < lines && d0 + d < head ? load_as<float>(start[from.place(line0 + i, d0 + d)]) : 0.0f;
    }
  }
};

/// How attention by matrix instructions is cut: a block has four warps, each with the rows of an instruction.
template <class Atom, int head, int value_head>
struct MatrixAttentionTiles {
  static_assert(Atom::m == 16 && Atom::k == 16);
  static constexpr int warps = 4, rows = warps * Atom::m, threads = warps * Atom::warp_size;
  static constexpr int head_steps = (head + Atom::k - 1) / Atom::k, columns = (value_head + 15) / 16 * 16;
  /// Words from one row to the next: an odd number of 16-byte pieces, so that eight rows of a matrix load are in all banks.
  static constexpr int key_pitch = head_steps * Atom::words + 4;
  static constexpr int value_pitch_of(int keys) { return keys / 2 + 4; }
  static constexpr int words_of(int keys) { return (rows + keys) * key_pitch + (columns + rows) * value_pitch_of(keys); }
  static constexpr int most_words = detail::attention_shared_limit / 4;
  /// Keys of a tile; 0: not even 16 fit.
  static constexpr int keys = words_of(64) <= most_words ? 64 : words_of(32) <= most_words ? 32 : words_of(16) <= most_words ? 16 : 0;
  static constexpr bool fits = keys > 0 && columns <= 192;
  static constexpr int value_pitch = value_pitch_of(keys), shared_bytes = 4 * words_of(keys);
};

/// By matrix instructions: queries, keys and values of T, 16 bits wide; powers are rounded to T before they meet the values.
template <class T, class Atom, int head, int value_head>
struct MatrixAttention : MatrixAttentionTiles<Atom, head, value_head> {
  using Tiles = MatrixAttentionTiles<Atom, head, value_head>;
  static_assert(sizeof(T) == 2);
  using Tiles::columns, Tiles::head_steps, Tiles::key_pitch, Tiles::keys, Tiles::rows, Tiles::threads, Tiles::value_pitch;
  static constexpr int key_atoms = keys / Atom::n, column_atoms = columns / Atom::n;

  static TILE_INLINE i64 blocks(const AttentionExtents& e) { return e.batch * ((e.rows + rows - 1) / rows); }

  template <class Exec, class Query, class Key, class Value, class Score, class Weight, class Store>
  static TILE_DEVICE void run(Exec& ex, const AttentionExtents& e, const Query& query, const Key& key, const Value& value, const Score& score,
                              const Weight& weight, const Store& store) {
    const i64 cuts = (e.rows + rows - 1) / rows, batch = ex.block() / cuts, row0 = ex.block() % cuts * rows;
    const auto keys_of_batch = key.start(batch);
    const auto values_of_batch = value.start(batch);
    constexpr int keys_at = 4 * rows * key_pitch, values_at = keys_at + 4 * keys * key_pitch, powers_at = values_at + 4 * columns * value_pitch;
    const auto query_words = ex.template shared<const uint32_t>(0, rows * key_pitch), key_words = ex.template shared<const uint32_t>(keys_at, keys * key_pitch);
    const auto value_words = ex.template shared<const uint32_t>(values_at, columns * value_pitch),
               power_words = ex.template shared<const uint32_t>(powers_at, rows * value_pitch);
    const auto powers = ex.template shared<T>(powers_at, rows * value_pitch * 2);
    const int own = ex.warp() * Atom::m;  // this warp's first row
    float largest[Atom::c_rows], total[Atom::c_rows] = {};
    for (float& one : largest) one = -detail::infinity;
    typename Atom::C sums[column_atoms] = {};

    fetch<rows>(ex, 0, query, query.start(batch), row0, e.rows);
    for (i64 key0 = 0; key0 < e.keys; key0 += keys) {
      ex.sync();  // all are done with the tiles before
      fetch<keys>(ex, keys_at, key, keys_of_batch, key0, e.keys);
      fetch_values(ex, values_at, value, values_of_batch, key0, e.keys);
      ex.commit_copies();
      ex.template wait_copies<0>();
      ex.sync();

      typename Atom::C scores[key_atoms] = {};
      for (int step = 0; step < head_steps; ++step) {
        typename Atom::A a;
        Atom::load_a(ex, a, [&](int row, int word) { return query_words + ((own + row) * key_pitch + step * Atom::words + word); });
        for (int j = 0; j < key_atoms; j += Atom::b_at_once) {
          typename Atom::B b[Atom::b_at_once];
          Atom::load_b(ex, b, [&](int row, int word) { return key_words + ((j * Atom::n + row) * key_pitch + step * Atom::words + word); });
          for (int i = 0; i < Atom::b_at_once; ++i) Atom::run(ex, scores[j + i], a, b[i]);
        }
      }

      float scale[Atom::c_rows];
      soften(ex, e, score, batch, row0 + own, key0, scores, largest, total, scale);
      for (auto& sum : sums)
        for (int c = 0; c < 4; ++c) sum.value[c] *= scale[row_of(c)];
      for (int j = 0; j < key_atoms; ++j)
        for (int c = 0; c < 4; ++c)
          powers[(own + Atom::c_row(ex.lane(), c)) * value_pitch * 2 + j * Atom::n + Atom::c_column(ex.lane(), c)] = store_as<T>(scores[j].value[c]);
      ex.sync_warp();
      for (int step = 0; step < keys / Atom::k; ++step) {
        typename Atom::A a;
        Atom::load_a(ex, a, [&](int row, int word) { return power_words + ((own + row) * value_pitch + step * Atom::words + word); });
        for (int j = 0; j < column_atoms; j += Atom::b_at_once) {
          typename Atom::B b[Atom::b_at_once];
          Atom::load_b(ex, b, [&](int row, int word) { return value_words + ((j * Atom::n + row) * value_pitch + step * Atom::words + word); });
          for (int i = 0; i < Atom::b_at_once; ++i) Atom::run(ex, sums[j + i], a, b[i]);
        }
      }
    }
    ex.commit_copies();
    ex.template wait_copies<0>();

    float divisor[Atom::c_rows];
    for (int r = 0; r < Atom::c_rows; ++r) divisor[r] = detail::divisor_of(largest[r], detail::over_lanes<Atom::c_row_lanes>(ex, total[r], detail::Plus()));
    for (int r = 0; r < Atom::c_rows; ++r) {
      const i64 m = row0 + own + Atom::c_row(ex.lane(), r * (4 / Atom::c_rows));
      const bool zero = e.keys == 0 || (m < e.rows && weight(batch, m, divisor[r]) == 0);
      // Once: a product with 1 / divisor would round twice.
      for (auto& sum : sums)
        for (int c = 0; c < 4; ++c)
          if (row_of(c) == r) sum.value[c] = zero ? 0.0f : sum.value[c] / divisor[r];
    }
    for (int j = 0; j < column_atoms; ++j)
      for (int c = 0; c < 4; ++c) {
        const i64 m = row0 + own + Atom::c_row(ex.lane(), c);
        const int column = j * Atom::n + Atom::c_column(ex.lane(), c);
        if (m < e.rows && column < value_head) store(batch, m, column, sums[j].value[c]);
      }
  }

 private:
  /// Which of its rows a lane's c-th result is in.
  static constexpr TILE_INLINE int row_of(int c) { return c / (4 / Atom::c_rows); }

  /// Products become powers of the scores; `scale`: what earlier powers of a row are to be multiplied by.
  template <class Exec, class Score>
  static TILE_DEVICE void soften(Exec& ex, const AttentionExtents& e, const Score& score, i64 batch, i64 row0, i64 key0, typename Atom::C (&scores)[key_atoms],
                                 float (&largest)[Atom::c_rows], float (&total)[Atom::c_rows], float (&scale)[Atom::c_rows]) {
    float top[Atom::c_rows], base[Atom::c_rows];
    for (int r = 0; r < Atom::c_rows; ++r) top[r] = largest[r];
    for (int j = 0; j < key_atoms; ++j)
      for (int c = 0; c < 4; ++c) {
        const i64 m = row0 + Atom::c_row(ex.lane(), c), n = key0 + j * Atom::n + Atom::c_column(ex.lane(), c);
        float& one = scores[j].value[c];
        one = m < e.rows && n < e.keys ? score(batch, m, n, one) : -detail::infinity;
        top[row_of(c)] = detail::Larger()(top[row_of(c)], one);
      }
    for (int r = 0; r < Atom::c_rows; ++r) {
      top[r] = detail::over_lanes<Atom::c_row_lanes>(ex, top[r], detail::Larger());
      base[r] = detail::base_of(top[r]);
      scale[r] = detail::exp_to_one(largest[r] - base[r]);
      largest[r] = top[r];
      total[r] *= scale[r];
    }
    for (int j = 0; j < key_atoms; ++j)
      for (int c = 0; c < 4; ++c) {
        float& one = scores[j].value[c];
        one = detail::exp_to_one(one - base[row_of(c)]);
        total[row_of(c)] += one;
      }
  }

  /// `lines` vectors from `line0` on to rows of shared memory, zeros behind them.
  template <int lines, class Exec, class From, class Start>
  static TILE_DEVICE void fetch(Exec& ex, int byte, const From& from, const Start& start, i64 line0, i64 count) {
    constexpr int elements = head_steps * Atom::k;
    if constexpr (From::whole) {
      static_assert(head % 8 == 0, "whole vectors are whole pieces");
      const auto to = ex.template shared<uint32_t>(byte, lines * key_pitch);
      for (int at = ex.thread(); at < lines * (elements / 8); at += threads) {
        const int i = at / (elements / 8), d = at % (elements / 8) * 8;
        const auto piece = to + (i * key_pitch + d / 2);
        if (line0 + i < count && d < head) {
          ex.template copy_async<16>(piece, start + from.place(line0 + i, d));
        } else {
          for (int w = 0; w < 4; ++w) piece[w] = 0;
        }
      }
    } else {
      const auto to = ex.template shared<T>(byte, lines * key_pitch * 2);
      for (int at = ex.thread(); at < lines * elements; at += threads) {
        const int i = From::along ? at / elements : at % lines, d = From::along ? at % elements : at / lines;
        to[i * key_pitch * 2 + d] = line0 + i < count && d < head ? start[from.place(line0 + i, d)] : T{};
      }
    }
  }

  struct alignas(16) Piece {
    uint32_t word[4];
  };

  /// Values to shared memory with keys contiguous, two at a time.
  template <class Exec, class From, class Start>
  static TILE_DEVICE void fetch_values(Exec& ex, int byte, const From& from, const Start& start, i64 key0, i64 count) {
    const auto to = ex.template shared<uint32_t>(byte, columns * value_pitch);
    constexpr int pairs = keys / 2;
    if constexpr (From::whole) {
      for (int at = ex.thread(); at < pairs * (columns / 8); at += threads) {
        const int pair = at % pairs, column = at / pairs * 8;
        Piece low{}, high{};
        if (column < value_head && key0 + 2 * pair < count) low = as<Piece>(start + from.place(key0 + 2 * pair, column))[0];
        if (column < value_head && key0 + 2 * pair + 1 < count) high = as<Piece>(start + from.place(key0 + 2 * pair + 1, column))[0];
        for (int w = 0; w < 4; ++w) {
          to[(column + 2 * w) * value_pitch + pair] = (low.word[w] & 0xffffu) | high.word[w] << 16;
          to[(column + 2 * w + 1) * value_pitch + pair] = low.word[w] >> 16 | (high.word[w] & 0xffff0000u);
        }
      }
    } else {
      const auto element = [&](i64 n, int column) -> uint32_t { return n < count && column < value_head ? start[from.place(n, column)].bits : 0u; };
      for (int at = ex.thread(); at < pairs * columns; at += threads) {
        const int pair = From::along ? at / columns : at % pairs, column = From::along ? at % columns : at / pairs;
        const i64 n = key0 + 2 * pair;
        to[column * value_pitch + pair] = element(n, column) | element(n + 1, column) << 16;
      }
    }
  }
};

/// By the matrix instructions of Atom where tiles fit, else by multiply-add.
template <class T, class Atom, int head, int value_head>
using WarpAttention =
    std::conditional_t<MatrixAttentionTiles<Atom, head, value_head>::fits, MatrixAttention<T, Atom, head, value_head>, FmaAttention<head, value_head>>;
template <class T, int head, int value_head>
using MmaAttention = WarpAttention<T, Mma<T>, head, value_head>;
template <class T, int head, int value_head>
using MfmaAttention = WarpAttention<T, Mfma<T>, head, value_head>;

/// Few queries: a block takes one row and a part of its keys. Parts that are one of several leave their largest score, their sum and their
/// results, undivided, in memory.
template <int head, int value_head>
struct FewRowsAttention {
  static constexpr int most_rows = 4, most_parts = 16;
  /// Keys that are worth a part; keys that pass at a time.
  static constexpr int least_keys = 256, keys = 128, threads = 128;
  static constexpr int width = value_head > 64 ? 128 : value_head > 32 ? 64 : value_head > 16 ? 32 : 16;
  static constexpr int groups = threads / width, value_each = (value_head + width - 1) / width;
  static constexpr int floats_of_sums = groups * value_each * width, most_warps = threads / 32;
  static constexpr int scores_at = 4 * head, powers_at = scores_at + 4 * keys, sums_at = powers_at + 4 * keys, totals_at = sums_at + 4 * floats_of_sums;
  static constexpr int shared_bytes = totals_at + 4 * most_warps;
  /// Floats that a part leaves behind.
  static constexpr int part_floats = value_head + 2;

  /// How many parts the keys of a row are cut into, so that there are two blocks a multiprocessor.
  static TILE_INLINE i64 parts(const AttentionExtents& e, i64 multiprocessors) {
    const i64 lines = e.batch * e.rows;
    if (lines <= 0) return 1;
    const i64 wanted = (2 * multiprocessors + lines - 1) / lines, worth = (e.keys + least_keys - 1) / least_keys;
    const i64 few = wanted < worth ? wanted : worth;
    return few < 1 ? 1 : few < most_parts ? few : most_parts;
  }

  /// `partial`: of batch · rows · parts times part_floats, when there are several parts.
  template <class Exec, class Query, class Key, class Value, class Score, class Weight, class Store, class Partial>
  static TILE_DEVICE void run(Exec& ex, const AttentionExtents& e, i64 parts, const Query& query, const Key& key, const Value& value, const Score& score,
                              const Weight& weight, const Store& store, const Partial& partial) {
    const i64 line = ex.block() / parts, part = ex.block() % parts, batch = line / e.rows, row = line % e.rows;
    const i64 piece = (e.keys + parts - 1) / parts, first = part * piece, last = first + piece < e.keys ? first + piece : e.keys;
    const auto queries = query.start(batch);
    const auto all_keys = key.start(batch);
    const auto values = value.start(batch);
    const auto to_query = ex.template shared<float>(0, head);
    const auto one_query = ex.template shared<const float>(0, head);
    for (int d = ex.thread(); d < head; d += threads) to_query[d] = load_as<float>(queries[query.place(row, d)]);
    const auto to_scores = ex.template shared<float>(scores_at, keys), to_powers = ex.template shared<float>(powers_at, keys);
    const auto scores = ex.template shared<const float>(scores_at, keys), powers = ex.template shared<const float>(powers_at, keys);
    // Neighbouring lanes share a key whose elements are neighbours.
    constexpr int lanes = Key::along ? 8 : 1;
    const int column = ex.thread() % width, group = ex.thread() / width;
    float largest = -detail::infinity, total = 0, sums[value_each] = {};
    ex.sync();
    for (i64 key0 = first; key0 < last; key0 += keys) {
      for (int i = ex.thread() / lanes; i < keys; i += threads / lanes) {
        float sum = 0;
        if (key0 + i < last)
          for (int d = ex.thread() % lanes; d < head; d += lanes) sum = one_query[d] * load_as<float>(all_keys[key.place(key0 + i, d)]) + sum;
        sum = detail::over_lanes<lanes>(ex, sum, detail::Plus());
        if (ex.thread() % lanes == 0) to_scores[i] = key0 + i < last ? score(batch, row, key0 + i, sum) : -detail::infinity;
      }
      ex.sync();
      float top = largest;
      for (int i = ex.lane(); i < keys; i += Exec::warp_size) top = detail::Larger()(top, scores[i]);
      top = reduce_warp(ex, top, detail::Larger());
      const float base = detail::base_of(top), scale = detail::exp_to_one(largest - base);
      largest = top;
      const float power = detail::exp_to_one(scores[ex.thread()] - base);
      to_powers[ex.thread()] = power;
      total = total * scale + power;
      ex.sync();
      for (float& sum : sums) sum *= scale;
      for (int k = group; k < keys && key0 + k < last; k += groups) {
        const float by = powers[k];
        for (int c = 0; c < value_each; ++c)
          if (column + c * width < value_head) sums[c] = by * load_as<float>(values[value.place(key0 + k, column + c * width)]) + sums[c];
      }
    }

    const auto to_sums = ex.template shared<float>(sums_at, floats_of_sums), to_totals = ex.template shared<float>(totals_at, most_warps);
    const auto group_sums = ex.template shared<const float>(sums_at, floats_of_sums), totals = ex.template shared<const float>(totals_at, most_warps);
    for (int c = 0; c < value_each; ++c) to_sums[(group * value_each + c) * width + column] = sums[c];
    total = reduce_warp(ex, total, detail::Plus());
    if (ex.lane() == 0) to_totals[ex.warp()] = total;
    ex.sync();
    total = 0;
    for (int w = 0; w < threads / Exec::warp_size; ++w) total += totals[w];
    const float divisor = detail::divisor_of(largest, total);
    const bool zero = parts == 1 && (e.keys == 0 || weight(batch, row, divisor) == 0);
    for (int c = ex.thread(); c < value_head; c += threads) {
      float sum = 0;
      for (int g = 0; g < groups; ++g) sum += group_sums[(g * value_each + c / width) * width + c % width];
      if (parts == 1)
        store(batch, row, c, zero ? 0.0f : sum / divisor);
      else
        partial[ex.block() * part_floats + 2 + c] = sum;
    }
    if (parts > 1 && ex.thread() == 0) {
      partial[ex.block() * part_floats] = largest;
      partial[ex.block() * part_floats + 1] = total;
    }
  }

  /// What the parts of a row found becomes its results, always in the same order. A block a row.
  template <class Exec, class Weight, class Store, class Partial>
  static TILE_DEVICE void combine(Exec& ex, const AttentionExtents& e, i64 parts, const Weight& weight, const Store& store, const Partial& partial) {
    const i64 batch = ex.block() / e.rows, row = ex.block() % e.rows, begin = ex.block() * parts * part_floats;
    float largest = -detail::infinity, total = 0;
    for (i64 p = 0; p < parts; ++p) largest = detail::Larger()(largest, partial[begin + p * part_floats]);
    const float base = detail::base_of(largest);
    for (i64 p = 0; p < parts; ++p) total = partial[begin + p * part_floats + 1] * detail::exp_to_one(partial[begin + p * part_floats] - base) + total;
    const float divisor = detail::divisor_of(largest, total);
    const bool zero = weight(batch, row, divisor) == 0;
    for (int c = ex.thread(); c < value_head; c += threads) {
      float sum = 0;
      for (i64 p = 0; p < parts; ++p) sum = partial[begin + p * part_floats + 2 + c] * detail::exp_to_one(partial[begin + p * part_floats] - base) + sum;
      store(batch, row, c, zero ? 0.0f : sum / divisor);
    }
  }
};

}  // namespace tile::simt
