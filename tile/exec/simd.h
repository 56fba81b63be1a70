#pragma once

// Vectors: a value type over the compiler's vector extensions, and the one place that knows how wide the machine is.

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "tile/types.h"

#if defined(__F16C__) || defined(__AVX2__)
#include <immintrin.h>
#endif

/// Unrolls the loop that follows completely, so that an array it indexes can live in registers.
#if defined(__clang__)
#define TILE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TILE_UNROLL _Pragma("GCC unroll 64")
#endif

namespace tile {

// What the compiler's predefined macros say of the machine.
#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(__aarch64__)
inline constexpr int vector_bytes = 16, vector_registers = 32;
#else
inline constexpr int vector_bytes = 16, vector_registers = 16;
#endif

/// Elements of T in one vector register.
template <class T>
inline constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

namespace detail {
template <class T, int n>
struct Vector {
  typedef T type __attribute__((vector_size(n * sizeof(T))));
};
}  // namespace detail

/// n elements of T with elementwise + - * / and comparisons; n a power of two.
template <class T, int n = lanes<T>>
using vec = typename detail::Vector<T, n>::type;

template <class T, int n = lanes<T>>
TILE_INLINE vec<T, n> load(const T* from) {
  vec<T, n> v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <class T, int n = lanes<T>>
TILE_INLINE void store(T* to, vec<T, n> v) {
  __builtin_memcpy(to, &v, sizeof v);
}
template <class T, int n = lanes<T>>
TILE_INLINE vec<T, n> broadcast(T value) {
  return value - vec<T, n>{};
}
TILE_INLINE vec<float> as_vector(float value) { return broadcast(value); }
TILE_INLINE vec<float> as_vector(vec<float> value) { return value; }
/// A vector of T from elements of B, each of which is a T.
template <class T, class B>
TILE_INLINE vec<T> load_wide(const B* from) {
  if constexpr (std::is_same_v<B, T>) {
    return load(from);
#if defined(__AVX512F__)
  } else if constexpr (std::is_same_v<T, float> && std::is_same_v<B, bfloat16>) {
    return (vec<T>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16);
#elif defined(__AVX2__)
  } else if constexpr (std::is_same_v<T, float> && std::is_same_v<B, bfloat16>) {
    return (vec<T>)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))), 16);
#endif
  } else if constexpr (std::is_same_v<T, float> && std::is_same_v<B, bfloat16>) {
    return (vec<T>)(__builtin_convertvector(load<uint16_t, lanes<T>>(reinterpret_cast<const uint16_t*>(from)), vec<uint32_t>) << 16);
#if defined(__AVX512F__)
  } else if constexpr (std::is_same_v<T, float> && std::is_same_v<B, uint8_t>) {
    return (vec<T>)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  } else if constexpr (std::is_same_v<T, float> && std::is_same_v<B, int8_t>) {
    return (vec<T>)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
  } else if constexpr (std::is_same_v<T, float> && std::is_same_v<B, uint8_t>) {
    return (vec<T>)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
  } else if constexpr (std::is_same_v<T, float> && std::is_same_v<B, int8_t>) {
    return (vec<T>)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#endif
#if defined(__F16C__)
  } else if constexpr (std::is_same_v<B, float16> && vector_bytes == 64) {
    return (vec<T>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  } else if constexpr (std::is_same_v<B, float16> && vector_bytes == 32) {
    return (vec<T>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#endif
  } else {
    T wide[lanes<T>];
    TILE_UNROLL
    for (int i = 0; i < lanes<T>; ++i) wide[i] = load_as<T>(from[i]);
    return load(wide);
  }
}
/// Rounds a vector of floats to T, to nearest even.
template <class T>
TILE_INLINE void store_narrow(T* to, vec<float> v) {
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<T, bfloat16> && vector_bytes == 64) {
    // The instruction takes subnormals for zeros.
    if (__builtin_expect(_mm512_fpclass_ps_mask((__m512)v, 0x20) == 0, 1)) {
      const __m256bh narrow = _mm512_cvtneps_pbh((__m512)v);
      __builtin_memcpy(to, &narrow, sizeof narrow);
      return;
    }
  }
#endif
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float16>) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
    return;
  }
#elif defined(__F16C__)
  if constexpr (std::is_same_v<T, float16>) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
    return;
  }
#endif
  float wide[lanes<float>];
  __builtin_memcpy(wide, &v, sizeof v);
  for (int i = 0; i < lanes<float>; ++i) to[i] = store_as<T>(wide[i]);
}

/// Rounds two neighbouring vectors.
template <class T>
TILE_INLINE void store_narrow(T* to, vec<float> v, vec<float> next) {
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<T, bfloat16> && vector_bytes == 64) {
    if (__builtin_expect((_mm512_fpclass_ps_mask((__m512)v, 0x20) | _mm512_fpclass_ps_mask((__m512)next, 0x20)) == 0, 1)) {  // no subnormals
      const __m512bh narrow = _mm512_cvtne2ps_pbh((__m512)next, (__m512)v);
      __builtin_memcpy(to, &narrow, sizeof narrow);
      return;
    }
  }
#endif
  store_narrow(to, v);
  store_narrow(to + lanes<float>, next);
}
/// Stores `count` neighbouring vectors of floats, one or an even number, rounded to T, to nearest even.
template <class T, int count>
TILE_INLINE void store_rounded(T* to, const vec<float> (&v)[count]) {
  static_assert(count == 1 || count % 2 == 0);
  if constexpr (std::is_same_v<T, float>) {
    TILE_UNROLL
    for (int i = 0; i < count; ++i) store(to + i * lanes<float>, v[i]);
  } else if constexpr (count == 1) {
    store_narrow(to, v[0]);
  } else {
    TILE_UNROLL
    for (int i = 0; i < count; i += 2) store_narrow(to + i * lanes<float>, v[i], v[i + 1]);
  }
}

/// Calls vectors(i64 first, std::integral_constant<int, n>), for n vectors from element `first` on, `most` (a power of two) or fewer, as far as whole
/// vectors go from element `from` on, and gives the first element behind them.
template <int most, class Count, class F>
TILE_INLINE i64 in_vectors(Count count, const F& vectors, i64 from = 0) {
  constexpr i64 step = most * lanes<float>;
  for (; from + step <= count; from += step) vectors(from, std::integral_constant<int, most>{});
  if constexpr (most > 1) return in_vectors<most / 2>(count, vectors, from);
  return from;
}

/// to[i] = the value of from[i], for `count` elements.
template <class T>
TILE_INLINE void widen_row(const T* from, i64 count, float* to) {
  i64 i = 0;
  for (; i + lanes<float> <= count; i += lanes<float>) store(to + i, load_wide<float>(from + i));
  for (; i < count; ++i) to[i] = load_as<float>(from[i]);
}
/// to[i] = from[i] rounded to T, for `count` elements.
template <class T>
TILE_INLINE void narrow_row(const float* from, i64 count, T* to) {
  i64 i = 0;
  for (; i + 2 * lanes<float> <= count; i += 2 * lanes<float>) store_narrow(to + i, load(from + i), load(from + i + lanes<float>));
  for (; i + lanes<float> <= count; i += lanes<float>) store_narrow(to + i, load(from + i));
  for (; i < count; ++i) to[i] = store_as<T>(from[i]);
}

/// a · b + c, rounded once where the machine has such an instruction.
TILE_INLINE vec<float> multiply_add(vec<float> a, vec<float> b, vec<float> c) {
#if defined(__AVX512F__)
  return (vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

/// The larger and the smaller ones, element by element; those of `b` where either is NaN.
template <class V>
TILE_INLINE V larger(V a, V b) {
#if defined(__AVX512F__)
  // Of the choice g++ makes a comparison into a mask and a blend. (A mask of all lanes: without one, its header warns of itself.)
  if constexpr (std::is_same_v<V, vec<float>>) return (V)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#endif
  return a > b ? a : b;
}
template <class V>
TILE_INLINE V smaller(V a, V b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<V, vec<float>>) return (V)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b);
#endif
  return a < b ? a : b;
}

namespace detail {
/// `bytes` ≤ 64 bytes, then zeros up to 64.
TILE_INLINE void copy_padded(void* to, const void* from, i64 bytes) {
#if defined(__AVX512BW__)
  const __mmask64 wanted = bytes >= 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1;
  _mm512_storeu_si512(to, _mm512_maskz_loadu_epi8(wanted, from));
#else
  __builtin_memset(to, 0, 64);
  __builtin_memcpy(to, from, static_cast<size_t>(bytes));
#endif
}

/// Lanes of `a` and `b` in turn: of their lower halves, or of their upper ones.
template <bool upper, class V, size_t... i>
TILE_INLINE V interleave(V a, V b, std::index_sequence<i...>) {
  constexpr size_t n = sizeof...(i), from = upper ? n / 2 : 0;
  return __builtin_shufflevector(a, b, static_cast<int>(from + i / 2 + i % 2 * n)...);
}
}  // namespace detail

/// Lane j of rows[i] and lane i of rows[j] change places.
template <class T>
TILE_INLINE void transpose(vec<T> (&rows)[lanes<T>]) {
  constexpr int n = lanes<T>;
  constexpr std::make_index_sequence<n> all;
  TILE_UNROLL
  for (int round = 1; round < n; round *= 2) {
    vec<T> next[n];
    TILE_UNROLL
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = detail::interleave<false>(rows[i], rows[i + n / 2], all);
      next[2 * i + 1] = detail::interleave<true>(rows[i], rows[i + n / 2], all);
    }
    TILE_UNROLL
    for (int i = 0; i < n; ++i) rows[i] = next[i];
  }
}

/// Lane i is what `op`, which takes two vectors, makes of all lanes of rows[i]: as many rows as lanes.
template <class T, class Op>
TILE_INLINE vec<T> fold_rows(const vec<T>* rows, Op op) {
  constexpr int n = lanes<T>;
  constexpr std::make_index_sequence<n> all;
  vec<T> v[n];
  TILE_UNROLL
  for (int i = 0; i < n; ++i) v[i] = rows[i];
  TILE_UNROLL
  for (int half = n / 2; half > 0; half /= 2) {
    TILE_UNROLL
    for (int i = 0; i < half; ++i) v[i] = op(detail::interleave<false>(v[i], v[i + half], all), detail::interleave<true>(v[i], v[i + half], all));
  }
  return v[0];
}
/// The sum of all elements.
template <class T, int n = lanes<T>>
TILE_INLINE T sum(vec<T, n> v) {
  T part[n];
  __builtin_memcpy(part, &v, sizeof v);
  TILE_UNROLL
  for (int width = n / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) part[i] = static_cast<T>(part[i] + part[i + width]);
  }
  return part[0];
}

}  // namespace tile
