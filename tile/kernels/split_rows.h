#pragma once

// Rows of floats as AmxSplitBlocks take them: each strip's elements are split once, for all panels.

#include "tile/atoms/amx_split.h"
#include "tile/kernels/contract_rows.h"

namespace tile {

struct SplitStrip {
  SplitRows base;
  const i64* offsets;
  i64 m0, rows;
};

/// `count` parts of the strips of `Left`, a provider of floats whose rows lie `stride` elements apart, without gaps.
template <class Left, i64 stride, int count = 3>
struct SplitStrips {
  Left left;

  i64 strips() const { return left.strips(); }
  i64 runs() const { return left.runs(); }
  i64 depth() const { return left.depth(); }
  i64 scratch() const { return floats() + parts() + runs() * words; }
  i64 strip_bytes() const { return left.strip_bytes(); }
  void begin(float* scratch) const { left.begin(scratch); }
  template <class F>
  TILE_INLINE void products(i64 first, i64 rows, F&& each) const {
    detail::each_product(left, first, rows, each);
  }

  SplitStrip strip(i64 b, i64 index, float* scratch) const {
    const Strip<float> strip = left.strip(b, index, scratch);
    auto* const to = reinterpret_cast<bfloat16*>(scratch + floats());
    auto* const offsets = reinterpret_cast<i64*>(scratch + floats() + parts());
    const i64 apart = part(), reach = (strip.rows - 1) * stride + depth();
    i64 low = 0, end = 0, first = 0, at = 0;  // elements [low, end) of floats are split, to `first` on
    bool all = true;
    for (i64 r = 0; r < runs(); ++r) {
      const i64 from = strip.offsets[r];
      if (r == 0 || from < low || from > end) {
        const i64 next = (at + aligned - 1) / aligned * aligned;
        clear(to, apart, at, next);
        low = end = from;
        first = at = next;
      }
      if (const i64 fresh = from + reach - end; fresh > 0) {
        all &= split(strip.base + end, fresh, to + at, apart);
        at += fresh;
        end += fresh;
      }
      offsets[r] = first + from - low;
    }
    clear(to, apart, at, at + beyond);
    return {{all ? to : nullptr, apart, strip.base, strip.offsets}, offsets, strip.m0, strip.rows};
  }

 private:
  static constexpr i64 words = sizeof(i64) / sizeof(float), aligned = 32, beyond = SplitRows::read_beyond;

  i64 floats() const { return (left.scratch() + 15) / 16 * 16; }
  /// Elements of one part, each line's begin aligned.
  i64 part() const { return (left.span() + (runs() + 1) * aligned + beyond) / aligned * aligned; }
  i64 parts() const { return count * part() / 2; }

  static void clear(bfloat16* to, i64 apart, i64 begin, i64 end) {
    for (int p = 0; p < count; ++p)
      for (i64 i = begin; i < end; ++i) to[p * apart + i] = {};
  }

  /// Whether parts stand for all of them.
  static TILE_NOINLINE bool split(const float* from, i64 elements, bfloat16* to, i64 apart) {
    uint32_t others = 0;
#pragma omp simd reduction(| : others)
    for (i64 i = 0; i < elements; ++i) {
      others |= detail::splits(from[i]) ? 0u : 1u;
      split_float<count>(from[i], to + i, apart);
    }
    return others == 0;
  }
};

}  // namespace tile
