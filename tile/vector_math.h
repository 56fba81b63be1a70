#pragma once

// Functions of tile/math.h on vectors of floats, for generated loops that are written in vectors: those for which compilers make of a loop of elements
// more than there is to do.

#include "tile/exec/simd.h"
#include "tile/math.h"

namespace tile {

/// NaN if either is.
TILE_INLINE vec<float> max(vec<float> a, vec<float> b) { return a != a ? a : larger(a, b); }
TILE_INLINE vec<float> min(vec<float> a, vec<float> b) { return a != a ? a : smaller(a, b); }
TILE_INLINE vec<float> max(vec<float> a, float b) { return TILE_IS_CONSTANT(b) && b == b ? larger(broadcast(b), a) : max(a, broadcast(b)); }
TILE_INLINE vec<float> min(vec<float> a, float b) { return TILE_IS_CONSTANT(b) && b == b ? smaller(broadcast(b), a) : min(a, broadcast(b)); }
TILE_INLINE vec<float> max(float a, vec<float> b) { return max(b, a); }
TILE_INLINE vec<float> min(float a, vec<float> b) { return min(b, a); }

/// v / divisor in every lane. The hardware's division takes a vector's lanes one after another; this is a product with the divisor's reciprocal, and one
/// with what that leaves over, which makes the quotient the nearest float (Markstein). One unit more where what is left over is below the normal numbers,
/// |v| < 2^-100, and for quotients at either end of the range.
TILE_INLINE vec<float> divide(vec<float> v, float divisor) {
#if defined(__FMA__)
  const float magnitude = __builtin_fabsf(divisor);
  if (__builtin_expect(magnitude >= 0x1p-100f && magnitude <= 0x1p100f, 1)) {
    const float reciprocal = 1.0f / divisor;
    const vec<float> quotient = v * reciprocal, rest = multiply_add(-quotient, broadcast(divisor), v);
    // Infinities leave what is not finite; the quotient of a zero keeps its sign.
    return ((rest - rest == 0) & (rest != 0)) ? multiply_add(rest, broadcast(reciprocal), quotient) : quotient;
  }
#endif
  return v / divisor;
}
TILE_INLINE vec<float> divide(vec<float> v, vec<float> divisor) { return v / divisor; }
TILE_INLINE vec<float> divide(float v, vec<float> divisor) { return v / divisor; }

namespace detail {
/// a / d for 1 ≤ d ≤ 2, by a reciprocal of 14 bits.
TILE_INLINE vec<float> divide_by_one_to_two(vec<float> a, vec<float> d) {  // 0.6 ulp
#if defined(__AVX512F__)
  vec<float> reciprocal = (vec<float>)_mm512_maskz_rcp14_ps(0xffff, (__m512)d);
  reciprocal = multiply_add(reciprocal, multiply_add(-d, reciprocal, broadcast(1.0f)), reciprocal);
  const vec<float> quotient = a * reciprocal;
  return multiply_add(reciprocal, multiply_add(-quotient, d, a), quotient);
#else
  return a / d;
#endif
}
}  // namespace detail

/// 1 / (1 + e^-x); zero where that is below the normal numbers.
TILE_INLINE vec<float> sigmoid(vec<float> x) {  // 2.3 ulp
  const vec<float> e = detail::exp_to_one<vec<uint32_t>>(x < 0 ? x : -x);
  return detail::divide_by_one_to_two(x < 0 ? e : broadcast(1.0f), 1.0f + e);
}

}  // namespace tile
