#pragma once

// Weights as whole numbers of 24 bits in a unit that their column shares: three bytes instead of a float's four, for products of few rows, which take as long
// as their weights take to come from memory. A vector of them becomes floats, number · unit, when it is loaded; what is multiplied and added are floats:
// infinities, NaN and results at the ends of the range are those of weights stored as floats.

#include <cstdint>
#include <cstring>

#include "tile/atoms/byte_digits.h"

namespace tile {

/// The bytes of a number, the lowest first.
struct Fixed24 {
  uint8_t of[3];
};

/// What a load of numbers reads before them, too: in a panel, units or other numbers.
inline constexpr int fixed24_bytes_before = 16;

namespace detail {

/// Which byte each byte of 32-bit lanes comes from: the upper three of a lane from a number, the lowest from `none`. Numbers lie side by side, so many of
/// them within reach of a shuffle; those of the first shuffle begin at byte `first`, of all others at `then`.
struct Fixed24Order {
  alignas(64) uint8_t of[64] = {};

  constexpr Fixed24Order(int within_reach, int first, int then, uint8_t none) {
    for (int i = 0; i < 64; ++i) {
      const int number = i / 4, from = number % within_reach * 3 + i % 4 - 1 + (number >= within_reach ? then : first);
      of[i] = i % 4 == 0 ? none : static_cast<uint8_t>(from);
    }
  }
};

/// A vector of numbers, each 256 times as large, from so many times three bytes.
TILE_INLINE vec<float> load_fixed24(const Fixed24* from) {
#if defined(__AVX512BW__)
  // The last 48 of 64 bytes: a load of these alone needs a mask, and is slow on some machines where it crosses cache lines.
  const __m512i bytes = _mm512_loadu_si512(reinterpret_cast<const char*>(from) - fixed24_bytes_before);
#if defined(__AVX512VBMI__)
  static constexpr Fixed24Order order(16, fixed24_bytes_before, fixed24_bytes_before, 0);
  const __m512i numbers = _mm512_maskz_permutexvar_epi8(0xeeeeeeeeeeeeeeee, _mm512_load_si512(order.of), bytes);
#else
  static constexpr Fixed24Order order(4, 0, 0, 0x80);
  const __m512i apart = _mm512_permutexvar_epi32(_mm512_setr_epi32(4, 5, 6, 0, 7, 8, 9, 0, 10, 11, 12, 0, 13, 14, 15, 0), bytes);
  const __m512i numbers = _mm512_shuffle_epi8(apart, _mm512_load_si512(order.of));
#endif
  return (vec<float>)_mm512_cvtepi32_ps(numbers);
#elif defined(__AVX2__) && !defined(__AVX512F__)
  static constexpr Fixed24Order order(4, 0, 4, 0x80);  // of 24 bytes the first sixteen and the last
  const auto* const bytes = reinterpret_cast<const char*>(from);
  const __m128i lower = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)), upper = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 8));
  return (vec<float>)_mm256_cvtepi32_ps(_mm256_shuffle_epi8(_mm256_set_m128i(upper, lower), _mm256_load_si256(reinterpret_cast<const __m256i*>(order.of))));
#else
  int32_t numbers[lanes<float>];
  TILE_UNROLL
  for (int i = 0; i < lanes<float>; ++i)
    numbers[i] = static_cast<int32_t>(uint32_t{from[i].of[0]} << 8 | uint32_t{from[i].of[1]} << 16 | uint32_t{from[i].of[2]} << 24);
  return __builtin_convertvector(load(numbers), vec<float>);
#endif
}

}  // namespace detail

template <>
struct Dot<float, Fixed24> {
  using left_type = float;
  using weight_type = Fixed24;
  static constexpr int group = 1;
  using Lanes = vec<float>;
  using Broadcast = float;

  /// `units`: of the vector's columns, as pack_fixed24() writes them.
  static TILE_INLINE Lanes load_lanes(const Fixed24* from, vec<float> units) { return detail::load_fixed24(from) * units; }
  static TILE_INLINE Broadcast broadcast(const float* from) { return *from; }
  static TILE_INLINE void add(vec<float>& sum, Broadcast left, Lanes weights) { sum += left * weights; }
};

/// Rows of a panel that its columns' units take.
inline constexpr i64 fixed24_unit_rows = 2;

/// Writes panels of `width` columns, a multiple of four: their units, 1/256 of what a number counts, in fixed24_unit_rows rows, then a row for each k.
/// `element(column, k)` gives the weights, whose columns' largest magnitudes are zero or within 2^-60 and 2^60. A weight that is not zero keeps its sign:
/// infinities times it are infinite. For the compiler and for tests.
template <class F>
void pack_fixed24(Fixed24* to, i64 columns, i64 depth, int width, F&& element) {
  constexpr int32_t largest_number = (1 << 23) - 1;
  for (i64 first = 0; first < columns; first += width, to += (depth + fixed24_unit_rows) * width) {
    std::memset(to, 0, static_cast<size_t>((depth + fixed24_unit_rows) * width) * sizeof(Fixed24));
    const i64 used = columns - first < width ? columns - first : width;
    auto* const units = reinterpret_cast<float*>(to);
    for (i64 j = 0; j < used; ++j) units[j] = unit_of_column(depth, largest_number, [&](i64 k) { return element(first + j, k); });
    Fixed24* number = to + fixed24_unit_rows * width;
    for (i64 k = 0; k < depth; ++k, number += width)
      for (i64 j = 0; j < used; ++j) {
        const double weight = element(first + j, k);
        if (weight == 0) continue;
        auto nearest = static_cast<int32_t>(__builtin_nearbyint(weight / units[j]));
        if (nearest == 0) nearest = weight < 0 ? -1 : 1;
        for (int byte = 0; byte < 3; ++byte) number[j].of[byte] = static_cast<uint8_t>(static_cast<uint32_t>(nearest) >> (8 * byte));
      }
    for (i64 j = 0; j < used; ++j) units[j] /= 256;
  }
}

}  // namespace tile
