#pragma once

// Floats as whole numbers of 24 bits in units that they share, and those as three digits of base 256, each from -128 to 127: what bytes multiply exactly.

#include <cstdint>
#include <cstring>

#include "tile/atoms/dot.h"

namespace tile {

/// A column's weights for four neighbouring k as digits. A step of a panel holds its rows of the first digit, then those of the second and the third.
struct ByteDigits {
  static constexpr int count = 3;
  ByteQuad of[count];
};

namespace detail {

/// The largest number that three digits make is 127 · 65536 + 127 · 256 + 127; added to it, no digit borrows.
inline constexpr int32_t largest_number = 0x7f7f7f;
inline constexpr uint32_t digits_start = 0x80808080u;

/// The bits of |value|, which order magnitudes; infinities and NaN are the largest.
TILE_INLINE uint32_t magnitude_bits(float value) { return bit_cast<uint32_t>(value) & 0x7fffffffu; }

/// Digit d, the first one the largest.
TILE_INLINE int8_t digit_of(int32_t number, int d) {
  return static_cast<int8_t>(static_cast<uint8_t>((static_cast<uint32_t>(number) + digits_start) >> (16 - 8 * d)) ^ 0x80);
}

}  // namespace detail

/// The unit of floats of which the largest magnitude has these bits: the smallest power of two in which it is no more than largest_number. Nothing, which is 0,
/// for infinities and NaN, and for magnitudes below 2^-90, whose units have no inverse.
TILE_INLINE float unit_of(uint32_t largest) {
  constexpr uint32_t least = (127u - 90) << 23, limit = 255u << 23;
  if (largest == 0) return 1;
  if (largest - least >= limit - least) return 0;
  const int exponent = static_cast<int>(largest >> 23) - 127;  // 2^exponent <= largest < 2^(exponent + 1)
  const bool above = (largest & 0x7fffffu) > (bit_cast<uint32_t>(static_cast<float>(detail::largest_number)) & 0x7fffffu);
  return detail::power_of_two(exponent - (above ? 21 : 22));
}

/// The unit of floats that share one: that power of two where `are_multiples(of it)`, whole numbers and their sums stay exact then; else a smaller one, so
/// that they err less.
template <class F>
TILE_INLINE float unit_of(uint32_t largest, F&& are_multiples) {
  constexpr float most = detail::largest_number - 0x7f;  // roundings of a unit, of its inverse and of products with that stay below
  const float even = unit_of(largest);
  return largest == 0 || even == 0 || are_multiples(even) ? even : bit_cast<float>(largest) / most;
}
/// Whether floats, of magnitudes below 2^24 units, are multiples of it, a power of two: mostly an early one is not. Those below 2^-126 units count as zeros.
TILE_INLINE bool are_multiples(const float* from, i64 floats, float unit) {
  const float per_unit = 1 / unit;
  for (i64 i = 0; i < floats; ++i) {
    const float number = from[i] * per_unit;
    if (number != static_cast<float>(static_cast<int32_t>(number))) return false;
  }
  return true;
}

/// The unit of a column's weights, element(k) for `depth` k, whose numbers shall be no more than `most`: a power of two where all weights are multiples of
/// it, whole numbers and their sums stay exact then; else the smallest, of which weights err by half at most. The largest magnitude is zero or within 2^-60
/// and 2^60.
template <class F>
float unit_of_column(i64 depth, int32_t most, F&& element) {
  uint32_t bits = 0;
  for (i64 k = 0; k < depth; ++k) {
    const uint32_t magnitude = detail::magnitude_bits(element(k));
    bits = magnitude > bits ? magnitude : bits;
  }
  if (bits == 0) return 1;
  const float largest = bit_cast<float>(bits), numbers = static_cast<float>(most), least = largest / numbers;
  float even = bit_cast<float>(bit_cast<uint32_t>(least) & 0x7f800000u);
  if (even * numbers < largest) even *= 2;
  bool whole = true;
  for (i64 k = 0; k < depth && whole; ++k) whole = __builtin_nearbyintf(element(k) / even) * even == element(k);
  return whole ? even : least;
}

/// Let p be the largest magnitude of some floats over the root of their mean square. Numbers err by half a unit, whatever their size; in a sum of k products
/// that is less than what k roundings of the sum come to while p² is no more than this.
constexpr double evenness(i64 k) { return k <= 40 ? 20 : k >= 128 ? 64 : static_cast<double>(k) / 2; }

/// The same for rows, less than columns may have: only these have a fourth digit for a ninth product, and models shall err no more than by multiply-adds.
constexpr double row_evenness(i64 k) { return evenness(k) < 36 ? evenness(k) : 36; }

/// Whether products with a column of weights are right in sums of `k`, whatever floats they meet. Of an uneven column the small weights would be lost, and
/// with them results of rows whose large elements meet these.
inline bool column_splits(float largest, double mean_square, i64 k) {
  const bool inside = largest == 0 || (largest >= 0x1p-60F && largest < 0x1p60F);  // or units' products might leave the range of floats
  return inside && static_cast<double>(largest) * static_cast<double>(largest) <= evenness(k) * mean_square && k <= 1 << 15;
}

/// Rows of quads that a panel has for a run: whole steps.
constexpr i64 digit_steps(i64 depth, int steps) { return (depth + steps * 4 - 1) / (steps * 4) * steps; }

/// Writes the panels that AmxDigitBlocks with so many `steps` read, of `columns` columns in panels of `width`, a multiple of 16: a row with the columns'
/// units, then for each sixteen columns what `element(column, k)` gives, zeros behind each run. A weight that is not zero keeps its sign: infinities times
/// it are infinite.
template <class F>
void pack_digits(ByteDigits* to, i64 columns, i64 runs, i64 depth, int width, int steps, F&& element) {
  constexpr int side = 16;
  const i64 rows = runs * digit_steps(depth, steps);
  for (i64 first = 0; first < columns; first += width, to += (rows + 1) * width) {
    std::memset(to, 0, static_cast<size_t>((rows + 1) * width) * sizeof(ByteDigits));
    auto* const units = reinterpret_cast<float*>(to);
    for (i64 j = 0; j < width; ++j) {
      units[j] = first + j < columns ? unit_of_column(runs * depth, detail::largest_number, [&](i64 k) { return element(first + j, k); }) : 1;
      auto* const bytes = reinterpret_cast<int8_t*>(to + width + j / side * rows * side);
      for (i64 k = 0; first + j < columns && k < runs * depth; ++k) {
        const double weight = static_cast<double>(element(first + j, k));  // whose quotient is rounded once
        auto number = static_cast<int32_t>(__builtin_nearbyint(weight / static_cast<double>(units[j])));
        if (number == 0 && weight != 0) number = weight < 0 ? -1 : 1;
        const i64 row = k / depth * digit_steps(depth, steps) + k % depth / 4;
        for (int d = 0; d < ByteDigits::count; ++d)
          bytes[((row / steps * ByteDigits::count + d) * steps + row % steps) * side * 4 + j % side * 4 + k % depth % 4] = detail::digit_of(number, d);
      }
    }
  }
}

}  // namespace tile
