#pragma once

#include <cstdint>
#include <numeric>
#include <optional>

namespace tile {

// What the coordinate algebra asks of an integer type besides + - * and ==. A symbolic integer brings its own overloads of
// known() and proven_nonnegative(), found by its namespace, and has / and % round toward minus infinity.

constexpr std::optional<int64_t> known(int64_t v) { return v; }
constexpr bool proven_nonnegative(int64_t v) { return v >= 0; }

template <class Int>
constexpr Int floor_div(const Int& a, const Int& b) {
  return a / b;
}
constexpr int64_t floor_div(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return q - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

template <class Int>
constexpr Int floor_mod(const Int& a, const Int& b) {
  return a % b;
}
constexpr int64_t floor_mod(int64_t a, int64_t b) {
  const int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/// a xor ((b mod 2^bits) << shift) for a, b >= 0.
template <class Int>
constexpr Int swizzle(const Int& a, const Int& b, int shift, int bits) {
  // Bit by bit with arithmetic alone: x + y - 2*x*y is x xor y for bits.
  Int result = a;
  for (int i = 0; i < bits; ++i) {
    const Int x = floor_mod(floor_div(a, Int(int64_t{1} << (shift + i))), Int(2));
    const Int y = floor_mod(floor_div(b, Int(int64_t{1} << i)), Int(2));
    result = result + (y - Int(2) * x * y) * Int(int64_t{1} << (shift + i));
  }
  return result;
}
constexpr int64_t swizzle(int64_t a, int64_t b, int shift, int bits) { return a ^ ((b & ((int64_t{1} << bits) - 1)) << shift); }

/// Proof that k divides v.
template <class Int>
constexpr bool is_multiple(const Int& v, const Int& k) {
  if (known(k) == 0) return known(v) == 0;
  return floor_div(v, k) * k == v;
}

/// A size to divide by: an empty extent has no coordinates, so any divisor serves it.
template <class Int>
constexpr Int divisor_of(const Int& extent) {
  return known(extent) == 0 ? Int(1) : extent;
}

}  // namespace tile
