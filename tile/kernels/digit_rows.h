#pragma once

// Rows of floats as AmxDigitBlocks take them: each strip's elements become digits once, for all panels.

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "tile/atoms/amx_digits.h"
#include "tile/exec/simd.h"
#include "tile/kernels/contract_rows.h"

namespace tile {

namespace detail {

/// The nearest whole numbers.
TILE_INLINE vec<int32_t> nearest(vec<float> v) {
#if defined(__AVX512F__)
  return (vec<int32_t>)_mm512_cvtps_epi32((__m512)v);
#elif defined(__AVX__)
  return (vec<int32_t>)_mm256_cvtps_epi32((__m256)v);
#else
  vec<int32_t> whole;
  for (int i = 0; i < lanes<float>; ++i) whole[i] = static_cast<int32_t>(__builtin_nearbyintf(v[i]));
  return whole;
#endif
}

using Bytes = vec<uint8_t, 64>;
/// Bytes `first` of 16 numbers of `a` and of `b`, then their bytes `second`.
template <size_t first, size_t second, size_t... i>
TILE_INLINE void gather_bytes(const Bytes& a, const Bytes& b, Bytes& to, std::index_sequence<i...>) {
  to = __builtin_shufflevector(a, b, static_cast<int>(i % 32 * 4 + (i < 32 ? first : second))...);
}
/// The same half of `a` and of `b`.
template <size_t from, size_t... i>
TILE_INLINE void gather_halves(const Bytes& a, const Bytes& b, Bytes& to, std::index_sequence<i...>) {
  to = __builtin_shufflevector(a, b, static_cast<int>(i < 32 ? from + i : 32 + from + i)...);
}

}  // namespace detail

/// to[d · apart + i] = digit d of from[i] for 64 floats, of `count` digits; `per_unit`: of the last one's.
template <int count>
TILE_INLINE void split_digits(const float* from, float per_unit, int8_t* to, i64 apart) {
  using detail::Bytes;
  constexpr int width = lanes<float>, vectors = 16 / width;
  constexpr std::make_index_sequence<64> all;
  Bytes quarter[4];
  TILE_UNROLL
  for (int q = 0; q < 4; ++q) {
    vec<uint32_t> numbers[vectors];
    TILE_UNROLL
    for (int v = 0; v < vectors; ++v) numbers[v] = (vec<uint32_t>)detail::nearest(load(from + q * 16 + v * width) * per_unit) + detail::digits_start;
    std::memcpy(&quarter[q], numbers, sizeof(Bytes));
  }
  Bytes upper[2], lower[2], digits[4];
  for (int i = 0; i < 2; ++i) {
    detail::gather_bytes<count - 1, count - 2>(quarter[2 * i], quarter[2 * i + 1], upper[i], all);
    detail::gather_bytes<count - 3, 0>(quarter[2 * i], quarter[2 * i + 1], lower[i], all);
  }
  detail::gather_halves<0>(upper[0], upper[1], digits[0], all), detail::gather_halves<32>(upper[0], upper[1], digits[1], all);
  detail::gather_halves<0>(lower[0], lower[1], digits[2], all);
  if constexpr (count == 4) detail::gather_halves<32>(lower[0], lower[1], digits[3], all);
  TILE_UNROLL
  for (int d = 0; d < count; ++d) {
    const Bytes digit = digits[d] ^ 0x80;
    std::memcpy(to + d * apart, &digit, sizeof digit);
  }
}

/// The same for `floats` elements, fewer than 64, then zeros up to `bytes`.
template <int count>
TILE_INLINE void split_some(const float* from, i64 floats, i64 bytes, float per_unit, int8_t* to, i64 apart) {
  alignas(64) float some[64] = {};
  alignas(64) int8_t digits[count * 64];
  for (i64 i = 0; i < floats; ++i) some[i] = from[i];
  split_digits<count>(some, per_unit, digits, 64);
  for (int d = 0; d < count; ++d) std::memcpy(to + d * apart, digits + d * 64, static_cast<size_t>(bytes));
}

/// The same for `floats` elements.
template <int count>
TILE_NOINLINE void split_piece(const float* from, i64 floats, float per_unit, int8_t* to, i64 apart) {
  for (; floats >= 64; floats -= 64, from += 64, to += 64) split_digits<count>(from, per_unit, to, apart);
  if (floats > 0) split_some<count>(from, floats, floats, per_unit, to, apart);
}

/// What decides of the digits of some floats.
struct Magnitudes {
  uint32_t largest = 0;  ///< magnitude_bits() of it
  double squares = 0;    ///< their sum
  i64 count = 0;

  /// The largest of these floats alone.
  TILE_INLINE uint32_t add(const float* from, i64 floats) {
    constexpr i64 piece = 256, before = 4 * piece;  // lines come nearer long before they are read: they cross pages
    uint32_t most = 0;
    for (i64 first = 0; first < floats; first += piece) {
      const i64 end = first + piece < floats ? first + piece : floats;
      for (i64 i = first; i < end; i += 16) __builtin_prefetch(from + i + before, 0, 2);
      float sum = 0;
#pragma omp simd reduction(max : most) reduction(+ : sum)
      for (i64 i = first; i < end; ++i) {
        const uint32_t bits = detail::magnitude_bits(from[i]);
        most = bits > most ? bits : most;
        sum += from[i] * from[i];
      }
      squares += static_cast<double>(sum);
    }
    largest = most > largest ? most : largest;
    count += floats;
    return most;
  }
  /// Whether three digits of them err by more than a sum of k floats does, or not much less. Squares of very small and very large ones are not known.
  bool uneven(i64 k) const {
    const auto most = static_cast<double>(bit_cast<float>(largest));
    if (largest != 0 && !(most >= 0x1p-50 && most < 0x1p50)) return true;
    return most * most * static_cast<double>(count) > row_evenness(k) * squares;
  }
};

namespace detail {

/// The bits of the largest magnitude.
TILE_INLINE uint32_t largest_bits(const float* from, i64 floats) {
  uint32_t most = 0;
#pragma omp simd reduction(max : most)
  for (i64 i = 0; i < floats; ++i) {
    const uint32_t bits = magnitude_bits(from[i]);
    most = bits > most ? bits : most;
  }
  return most;
}

/// One row's digits, a step of `lane_bytes` floats after the other.
template <int count, i64 lane_bytes>
TILE_NOINLINE void split_row(const float* from, i64 floats, float per_unit, int8_t* to, i64 digit) {
  for (; floats >= 64; floats -= lane_bytes, from += lane_bytes, to += count * digit) {
    if constexpr (lane_bytes == 64) {
      split_digits<count>(from, per_unit, to, digit);
    } else {
      split_some<count>(from, lane_bytes, lane_bytes, per_unit, to, digit);
    }
  }
  for (; floats > 0; floats -= lane_bytes, from += lane_bytes, to += count * digit)
    split_some<count>(from, floats < lane_bytes ? floats : lane_bytes, lane_bytes, per_unit, to, digit);
}

}  // namespace detail

/// The digits of `rows` rows of k floats that lie Block::stride apart, one run, each row with a unit of its own: as tile registers read them, tile by tile,
/// those of a step side by side. Memory for four digits, and for the units. No digits where a row has none. With `four` all rows have four digits, in units
/// that are powers of two; else four where three do not do for one of them.
template <class Block, bool four = false>
DigitRows digits_of_rows(const float* from, i64 rows, i64 k, float* units, int8_t* digits) {
  static constexpr i64 nowhere[1] = {0};
  constexpr i64 lane_bytes = Block::steps * 4;
  const i64 height = Block::tile_height(rows);
  bool all = true, fourth = four;
  for (i64 i = 0; i < rows; ++i) {
    const float* const floats = from + i * Block::stride;
    if constexpr (four) {
      units[i] = unit_of(detail::largest_bits(floats, k));
    } else {
      Magnitudes row;
      row.add(floats, k);
      units[i] = unit_of(row.largest, [&](float unit) { return are_multiples(floats, k, unit); });
      fourth |= row.uneven(k);
    }
    all &= units[i] != 0;
  }
  const i64 digit = height * lane_bytes, step = (fourth ? 4 : 3) * digit, tile = Block::panel_steps(k) / Block::steps * step;
  for (i64 i = 0; all && i < rows; ++i) {
    const float* const floats = from + i * Block::stride;
    int8_t* const to = digits + i / height * tile + i % height * lane_bytes;
    if (fourth) {
      detail::split_row<4, lane_bytes>(floats, k, 256 / units[i], to, digit);
    } else {
      detail::split_row<3, lane_bytes>(floats, k, 1 / units[i], to, digit);
    }
  }
  return {.digits = all ? digits : nullptr,
          .fourth = fourth,
          .row_apart = lane_bytes,
          .digit_apart = digit,
          .step_apart = step,
          .tile_apart = tile,
          .units = units,
          .floats = from,
          .float_offsets = nowhere};
}

/// How many digits windows need that share the unit of `seen.largest`, 3 or 4; 0: more. Sums have k terms; `quietest` is the largest magnitude in a window
/// where that is smallest, of those that are not zeros alone: from half of the unit's on its elements have the bits that a unit of its own would give them.
inline int digits_needed(const Magnitudes& seen, uint32_t quietest, i64 k) {
  const uint32_t apart_by = seen.largest - quietest;
  return apart_by > 8u << 23 ? 0 : apart_by > 1u << 23 || seen.uneven(k) ? 4 : 3;
}

/// Panels of digits, `depth` rows of quads each behind a row that begins with the columns' units.
template <int width_, class Batch = BatchStride>
struct DigitPanels {
  static constexpr int width = width_;

  const ByteDigits* data;
  i64 depth;
  Batch batch{};

  const ByteDigits* panel_at(i64 b, i64 outer, i64 k) const { return data + batch(b) + outer * (depth + 1) + (k + 1) * width; }
  static const float* units(const ByteDigits* panel) { return reinterpret_cast<const float*>(panel - width); }
};

struct DigitStrip {
  DigitRows base;
  const i64* offsets;
  i64 m0, rows;
};

/// The digits of the strips of `Left`, a provider of floats whose rows lie `Block::stride` elements apart, without gaps. Rows of one run have units of their
/// own and lie as tile registers read them; those of several, which overlap, share one unit, and their elements lie in the order of the floats.
template <class Left, class Block>
struct DigitStrips {
  static constexpr i64 stride = Block::stride, lane_bytes = Block::steps * 4;

  Left left;

  i64 strips() const { return left.strips(); }
  i64 runs() const { return left.runs(); }
  i64 depth() const { return left.depth(); }
  i64 scratch() const { return floats() + (all_digits() + 63) / 64 * 16 + 64 + runs() * words; }
  /// Three digits, as most strips have them.
  i64 near_scratch() const { return all_digits() / 4 * 3 / static_cast<i64>(sizeof(float)); }
  /// Of digits, which stay near instead of the floats.
  i64 strip_bytes() const { return left.strip_bytes() * 3 / 4; }
  void begin(float* scratch) const { left.begin(scratch); }
  template <class F>
  TILE_INLINE void products(i64 first, i64 rows, F&& each) const {
    detail::each_product(left, first, rows, each);
  }

  DigitStrip strip(i64 b, i64 index, float* scratch) const {
    const Strip<float> strip = left.strip(b, index, scratch);
    float* const units = scratch + floats();
    auto* const digits = reinterpret_cast<int8_t*>(units + 64);
    auto* const offsets = reinterpret_cast<i64*>(units + 64 + (all_digits() + 63) / 64 * 16);
    return runs() == 1 ? apart(strip, units, digits, offsets) : overlapping(strip, units, digits, offsets);
  }

 private:
  static constexpr i64 words = sizeof(i64) / sizeof(float), aligned = 64;

  i64 floats() const { return (left.scratch() + 15) / 16 * 16; }
  i64 steps_a_run() const { return Block::panel_steps(depth()) / Block::steps; }
  i64 all_digits() const { return runs() == 1 ? (Block::rows + 15) / 16 * 16 * steps_a_run() * lane_bytes * 4 + 64 : 4 * plane(); }
  /// One digit of all elements: of runs that continue each other once, of those of other phases once a run; the begin of each is aligned.
  i64 plane() const {
    constexpr i64 rows_beyond = (Block::rows - 1) / 16;
    const i64 apart = runs() * ((Block::rows - 1) * stride + depth()), elements = apart > left.span() ? apart : left.span();
    return (elements + (runs() + 1) * aligned + rows_beyond * stride + (Block::rows + blocks_a_window()) * 4 + DigitRows::read_beyond + 63) / aligned * aligned;
  }

  DigitStrip apart(const Strip<float>& strip, float* units, int8_t* digits, i64* offsets) const {
    offsets[0] = 0;
    DigitRows rows = digits_of_rows<Block>(strip.base + strip.offsets[0], strip.rows, depth(), units, digits);
    return {rows, offsets, strip.m0, strip.rows};
  }

  /// fresh(elements from, so many, where in a plane) for each piece of floats that runs add to those before them, and the runs' offsets.
  template <class F>
  void pieces(const Strip<float>& strip, i64* offsets, F&& fresh) const {
    const i64 reach = (strip.rows - 1) * stride + depth();
    i64 low = 0, end = 0, first = 0, at = 0;  // elements [low, end) of floats are in the plane, from `first` on
    for (i64 r = 0; r < runs(); ++r) {
      const i64 from = strip.offsets[r];
      if (r == 0 || from < low || from > end) {
        low = end = from;
        first = at = (at + aligned - 1) / aligned * aligned;
      }
      if (const i64 count = from + reach - end; count > 0) {
        fresh(strip.base + end, count, at);
        at += count;
        end += count;
      }
      offsets[r] = first + from - low;
    }
  }

  DigitStrip overlapping(const Strip<float>& strip, float* units, int8_t* digits, i64* offsets) const {
    const Windows windows = measure(strip, reinterpret_cast<uint32_t*>(digits));
    // Windows share the largest one's unit. Those whose own would be smaller lose bits, which a fourth digit keeps.
    const int needed = digits_needed(windows.all, windows.quietest, runs() * depth());
    const float unit = needed == 0 ? 0 : unit_of(windows.all.largest, [&](float even) {
      bool all = true;
      pieces(strip, offsets, [&](const float* from, i64 count, i64) { all = all && are_multiples(from, count, even); });
      return all;
    });
    const bool fourth = needed == 4;
    const i64 height = Block::tile_height(strip.rows), apart = plane();
    if (unit != 0)
      pieces(strip, offsets, [&](const float* from, i64 count, i64 at) {
        if (fourth) {
          split_piece<4>(from, count, 256 / unit, digits + at, apart);
        } else {
          split_piece<3>(from, count, 1 / unit, digits + at, apart);
        }
      });
    for (i64 i = 0; i < strip.rows; ++i) units[i] = unit;
    return {
        {unit != 0 ? digits : nullptr, fourth, stride, apart, lane_bytes, height * stride, units, strip.base, strip.offsets}, offsets, strip.m0, strip.rows};
  }

  struct Windows {
    Magnitudes all;
    uint32_t quietest;  ///< the smallest of the largest magnitudes that windows have, of those that are not zeros alone
  };

  /// `blocks` is memory for the largest magnitude of each block of `stride` elements of a run: windows begin `stride` apart.
  TILE_NOINLINE Windows measure(const Strip<float>& strip, uint32_t* blocks) const {
    Windows windows = {};
    uint32_t of_row[Block::rows] = {};
    const i64 count = strip.rows + blocks_a_window() - 1, reach = (strip.rows - 1) * stride + depth();
    for (i64 r = 0; r < runs(); ++r) {
      const float* const from = strip.base + strip.offsets[r];
      for (i64 j = 0; j < count; ++j) blocks[j] = windows.all.add(from + j * stride, reach - j * stride < stride ? reach - j * stride : stride);
      for (i64 i = 0; i < strip.rows; ++i)
        for (i64 j = 0; j < blocks_a_window(); ++j) of_row[i] = blocks[i + j] > of_row[i] ? blocks[i + j] : of_row[i];
    }
    windows.quietest = windows.all.largest;
    products(strip.m0, strip.rows, [&](i64, i64 first, i64 rows) {
      for (i64 i = first; i < first + rows; ++i)
        if (of_row[i] > 0 && of_row[i] < windows.quietest) windows.quietest = of_row[i];
    });
    return windows;
  }
  i64 blocks_a_window() const { return (depth() + stride - 1) / stride; }
};

}  // namespace tile
