#pragma once

// One step along k of a row block (row_block.h), as the machine has it: a multiply-add of floats, or the sum of a few products of short
// numbers. A step takes `group` neighbouring k: of the left operand the elements where they lie, of the weights one lane of a panel,
// which holds a column's weights for these k (see pack_groups()).
//
// An atom is a specialisation of Dot for the type of sums and of a lane:
//   left_type, weight_type, group       what it multiplies, and how many at once
//   Lanes load_lanes(lane*)             a vector of lanes; of lanes in units of their columns, load_lanes(lane*, vec<P> units)
//   Broadcast broadcast(left_type[group]), broadcast_rest(the same, less than group of them): one row's elements for all lanes
//   add(vec<P> sum, Broadcast, Lanes)
// of floats also store_left(left_type*, vec<P>), for a left operand that a kernel computes, and, of several k, emulate(P sum, left_type[group],
// weight_type[group]): the same for one lane, bit by bit.
//
// | lane       | left | weights | sums | instruction            | promises                                                        |
// | ---------- | ---- | ------- | ---- | ---------------------- | --------------------------------------------------------------- |
// | float, …   | P    | B       | P    | multiply-add           | each product rounded with the sum, or before it, as P           |
// | Fixed24    | f32  | s24     | f32  | multiply-add           | the same, of the weight rounded as P: fixed24.h                 |
// | ByteQuad   | u8   | s8      | i32  | vpdpbusd               | exact modulo 2^32: nothing saturates                            |
// | ShortPair  | s16  | s16     | i32  | vpdpwssd, vpmaddwd     | exact modulo 2^32                                               |
// | BfloatPair | bf16 | bf16    | f32  | vdpbf16ps              | two fused multiply-adds, odd k first; subnormals count as zeros |

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tile/exec/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tile {

/// Lanes of panels: one column's weights for neighbouring k.
struct ByteQuad {
  int8_t of[4];
};
struct ShortPair {
  int16_t of[2];
};
struct BfloatPair {
  bfloat16 of[2];
};

/// The atom of multiply-adds: weights are stored as B.
template <class P, class B>
struct Dot {
  using left_type = P;
  using weight_type = B;
  static constexpr int group = 1;
  using Lanes = vec<P>;
  using Broadcast = P;

  static TILE_INLINE Lanes load_lanes(const B* from) { return load_wide<P>(from); }
  static TILE_INLINE Broadcast broadcast(const P* from) { return *from; }
  /// Elements of a left operand that is computed, as the atom reads them.
  static TILE_INLINE void store_left(P* to, vec<P> v) { store(to, v); }
  static TILE_INLINE void add(vec<P>& sum, Broadcast left, Lanes weights) { sum += left * weights; }
};

namespace detail {

/// What atoms of 32-bit lanes share.
template <class P, class L, class W>
struct WordDot {
  using left_type = L;
  using weight_type = W;
  static constexpr int group = 4 / static_cast<int>(sizeof(L));
  using Lanes = vec<uint32_t>;
  using Broadcast = vec<uint32_t>;

  static TILE_INLINE Lanes load_lanes(const void* from) { return load(static_cast<const uint32_t*>(from)); }
  static TILE_INLINE Broadcast broadcast(const L* from) {
    uint32_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return spread(word);
  }
  /// The last `rest` < group elements before `end`, zeros for the others. `before`: how many lie in memory in front of them, at least.
  static TILE_INLINE Broadcast broadcast_rest(const L* end, i64 rest, i64 before) {
    uint32_t word = 0;
    if (rest + before >= group) {
      __builtin_memcpy(&word, end - group, sizeof word);
      word >>= 8 * (4 - rest * static_cast<i64>(sizeof(L)));
    } else {
      for (i64 i = 0; i < rest; ++i) {
        std::make_unsigned_t<std::conditional_t<sizeof(L) == 1, int8_t, int16_t>> bits;
        __builtin_memcpy(&bits, end - rest + i, sizeof bits);
        word |= static_cast<uint32_t>(bits) << (8 * sizeof(L) * static_cast<size_t>(i));
      }
    }
    return spread(word);
  }

 private:
  static TILE_INLINE Broadcast spread(uint32_t word) {
#if defined(__AVX512F__)
    return (Broadcast)_mm512_set1_epi32(static_cast<int>(word));
#elif defined(__AVX2__)
    return (Broadcast)_mm256_set1_epi32(static_cast<int>(word));
#else
    return tile::broadcast(word);
#endif
  }
};

/// Lanes one by one, for machines without the instruction.
template <class Atom, class V>
TILE_INLINE void add_lanes(V& sum, vec<uint32_t> left, vec<uint32_t> weights) {
  for (int j = 0; j < lanes<uint32_t>; ++j) {
    typename Atom::left_type l[Atom::group];
    typename Atom::weight_type w[Atom::group];
    const uint32_t left_word = left[j], weight_word = weights[j];
    __builtin_memcpy(l, &left_word, sizeof l);
    __builtin_memcpy(w, &weight_word, sizeof w);
    sum[j] = Atom::emulate(sum[j], l, w);
  }
}

/// Products of integers added up modulo 2^32.
template <class L, class W>
int32_t exact_dot(int32_t sum, const L* left, const W* weights, int group) {
  auto total = static_cast<uint32_t>(sum);
  for (int i = 0; i < group; ++i) total += static_cast<uint32_t>(int32_t{left[i]} * int32_t{weights[i]});
  return static_cast<int32_t>(total);
}

inline float flushed(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  return (bits & 0x7f800000u) == 0 ? bit_cast<float>(bits & 0x80000000u) : value;
}

}  // namespace detail

template <>
struct Dot<int32_t, ByteQuad> : detail::WordDot<int32_t, uint8_t, int8_t> {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
  static TILE_INLINE void add(vec<int32_t>& sum, Broadcast left, Lanes weights) {
    sum = (vec<int32_t>)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)left, (__m512i)weights);
  }
#else
  static TILE_INLINE void add(vec<int32_t>& sum, Broadcast left, Lanes weights) { detail::add_lanes<Dot>(sum, left, weights); }
#endif
  static int32_t emulate(int32_t sum, const uint8_t* left, const int8_t* weights) { return detail::exact_dot(sum, left, weights, group); }
};

template <>
struct Dot<int32_t, ShortPair> : detail::WordDot<int32_t, int16_t, int16_t> {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
  static TILE_INLINE void add(vec<int32_t>& sum, Broadcast left, Lanes weights) {
    sum = (vec<int32_t>)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)left, (__m512i)weights);
  }
#elif defined(__AVX512BW__)
  static TILE_INLINE void add(vec<int32_t>& sum, Broadcast left, Lanes weights) {
    sum = (vec<int32_t>)_mm512_add_epi32((__m512i)sum, _mm512_madd_epi16((__m512i)left, (__m512i)weights));
  }
#elif defined(__AVX2__) && !defined(__AVX512F__)
  static TILE_INLINE void add(vec<int32_t>& sum, Broadcast left, Lanes weights) {
    sum = (vec<int32_t>)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16((__m256i)left, (__m256i)weights));
  }
#else
  static TILE_INLINE void add(vec<int32_t>& sum, Broadcast left, Lanes weights) { detail::add_lanes<Dot>(sum, left, weights); }
#endif
  static int32_t emulate(int32_t sum, const int16_t* left, const int16_t* weights) { return detail::exact_dot(sum, left, weights, group); }
};

template <>
struct Dot<float, BfloatPair> : detail::WordDot<float, bfloat16, bfloat16> {
  /// Rounded to nearest even. Subnormals may become zeros, which dots take them for.
  static TILE_INLINE void store_left(bfloat16* to, vec<float> v) {
#if defined(__AVX512BF16__)
    const __m256bh narrow = _mm512_cvtneps_pbh((__m512)v);
    __builtin_memcpy(to, &narrow, sizeof narrow);
#else
    store_narrow(to, v);
#endif
  }
#if defined(__AVX512BF16__)
  static TILE_INLINE void add(vec<float>& sum, Broadcast left, Lanes weights) {
    sum = (vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)weights);
  }
#else
  static TILE_INLINE void add(vec<float>& sum, Broadcast left, Lanes weights) { detail::add_lanes<Dot>(sum, left, weights); }
#endif
  static float emulate(float sum, const bfloat16* left, const bfloat16* weights) {
    float total = detail::flushed(sum);
    for (int i = group; i-- > 0;) total = detail::flushed(__builtin_fmaf(detail::flushed(to_float(left[i])), detail::flushed(to_float(weights[i])), total));
    return total;
  }
};

/// Steps of `group` that `depth` elements take; runs of a row begin a step each.
constexpr i64 dot_steps(i64 depth, int group) { return (depth + group - 1) / group; }

/// Writes the panels of lanes B that a row block reads, from `element(outer, k)` for `runs` runs of `depth` k each: of each run one step
/// after another, zeros where there are no more k or outer. For tiles `side` columns and up to `tile_steps` steps of a run lie together, the next columns of
/// these steps behind them. For the compiler and for tests.
template <class B, class F>
void pack_groups(B* to, i64 outer, i64 runs, i64 depth, int width, F&& element, int side = 0, i64 tile_steps = 1) {
  constexpr int group = static_cast<int>(sizeof(B::of) / sizeof(B{}.of[0]));
  const i64 columns = side > 0 ? side : width, k_of_tile = tile_steps * group;
  for (i64 first = 0; first < outer; first += width)
    for (i64 r = 0; r < runs; ++r)
      for (i64 upper = 0; upper < depth; upper += k_of_tile)
        for (i64 left = first; left < first + width; left += columns)
          for (i64 k = upper; k < depth && k < upper + k_of_tile; k += group)
            for (i64 i = left; i < left + columns; ++i, ++to)
              for (int e = 0; e < group; ++e) {
                if (i < outer && k + e < depth)
                  to->of[e] = element(i, r * depth + k + e);
                else
                  to->of[e] = {};
              }
}

}  // namespace tile
