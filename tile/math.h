#pragma once

// Elementwise functions for generated kernels, under one generic name each: tile::exp(x) for float, double, float16, bfloat16.
//
// The float versions are inline and branch-free, so that a loop under `#pragma omp simd` becomes vector code
// (-O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast); their largest errors stand beside them in units in the last
// place, and math_test.cpp holds them to it over all ranges. double versions call the C library. The 16-bit types compute in
// float. Rounding to nearest and a multiply-add instruction are assumed.

#include <cstdint>
#include <type_traits>

#include "tile/types.h"

namespace tile {

namespace detail {

inline constexpr float infinity = __builtin_inff();
inline constexpr float quiet_nan = __builtin_nanf("");

/// Polynomial c0 + c1 x + c2 x² + …
template <class V>
TILE_INLINE V polynomial(V, V c0) {
  return c0;
}
template <class V, class... C>
TILE_INLINE V polynomial(V x, V c0, C... rest) {
  return c0 + x * polynomial(x, static_cast<V>(rest)...);
}

/// x rounded to an integer, |x| < 2^22: as float and as int. Adding 1.5 · 2^23 pushes the fraction out of the mantissa and
/// leaves the integer in its low bits; NaN stays NaN and makes some integer.
struct Rounded {
  float value;
  int32_t integer;
};
TILE_INLINE Rounded round_small(float x) {
  constexpr float shift = 12582912.0f;
  const float shifted = x + shift;
  return {shifted - shift, bit_cast<int32_t>(shifted) - bit_cast<int32_t>(shift)};
}

/// v · 2^n for |n| ≤ 252, in two exact steps so that subnormal results are rounded once and overflow gives infinity.
TILE_INLINE float scale(float v, int32_t n) {
  const int32_t half = n >> 1;
  return v * bit_cast<float>((half + 127) << 23) * bit_cast<float>((n - half + 127) << 23);
}

/// x = n ln 2 + r with |r| ≤ ln 2 / 2; then e^r - 1 as r + r² q(r).
struct ExpReduced {
  float remainder, tail;
  int32_t power;
};
TILE_INLINE ExpReduced reduce_exp(float x) {
  const Rounded n = round_small(x * 1.44269504f);
  float r = x - n.value * 0.693145752f;
  r = r - n.value * 1.42860677e-6f;
  const float q = polynomial(r, 5.000000078e-01f, 1.666666686e-01f, 4.166626851e-02f, 8.333264106e-03f, 1.394617659e-03f, 1.991852459e-04f);
  return {r, r * r * q, n.integer};
}

/// Limits that keep NaN.
TILE_INLINE float at_most(float x, float high) { return x > high ? high : x; }
TILE_INLINE float at_least(float x, float low) { return x < low ? low : x; }

/// e^r for |r| ≤ ln 2 / 2.
template <class V>
TILE_INLINE V exp_of_remainder(V r) {
  return 1.0f + r * (1.0f + r * (4.999999404e-01f + r * (1.666652113e-01f + r * (4.166826978e-02f + r * (8.368679322e-03f + r * 1.382043702e-03f)))));
}

TILE_INLINE float exp(float x) {  // 0.9 ulp
  // What vanishes (a masked score, say) takes the way of 0: results below the normal numbers cost a hundred cycles each.
  const bool vanishes = x < -104.0f;
  const ExpReduced e = reduce_exp(vanishes ? 0.0f : at_most(x, 89.0f));
  const float result = scale(exp_of_remainder(e.remainder), e.power);
  return vanishes ? 0.0f : result;
}

/// x rounded to an integer n, and 2^n, for -127 < n < 128; a power of anything for others. U: the bits of V, a float or a vector of floats.
template <class V>
struct RoundedPower {
  V value, power;
};
template <class U = uint32_t, class V>
TILE_INLINE RoundedPower<V> round_power(V x) {
  // As round_small(), with the bias of the exponent in the shift: the low bits are those of 2^n, and what lies above them leaves.
  constexpr float shift = 12582912.0f + 127.0f;
  const V shifted = x + shift;
  return {shifted - shift, bit_cast<V>(bit_cast<U>(shifted) << 23)};
}

/// e^x for x ≤ 0 and NaN; results below the normal numbers are zero.
template <class U = uint32_t, class V>
TILE_INLINE V exp_to_one(V x) {  // 0.9 ulp
  const RoundedPower<V> n = round_power<U>(x * 1.44269504f);
  V r = x - n.value * 0.693145752f;
  r = r - n.value * 1.42860677e-6f;
  const V result = exp_of_remainder(r) * n.power;
  return x < -87.33654f ? V{} : result;
}

TILE_INLINE float expm1(float x) {  // 2.4 ulp
  const float limited = at_least(at_most(x, 89.0f), -20.0f);
  const ExpReduced e = reduce_exp(limited);
  // 2^(n-1) (e^r - 1) + 2^(n-1) - 1/2, doubled: n = 128 does not overflow early.
  const float power = bit_cast<float>((e.power + 126) << 23);
  const float m = (e.tail * power + (power - 0.5f)) + e.remainder * power;
  const float result = e.power == 0 ? e.remainder + e.tail : m * 2.0f;
  return x == 0 ? x : result;
}

TILE_INLINE float exp2(float x) {  // 0.9 ulp
  const float limited = at_least(at_most(x, 129.0f), -151.0f);
  const Rounded n = round_small(limited);
  const float r = limited - n.value;
  const float p = polynomial(r, 6.93147181e-01f, 2.40226507e-01f, 5.55041084e-02f, 9.61801166e-03f, 1.33334777e-03f, 1.54692913e-04f, 1.52019193e-05f);
  return scale(1.0f + r * p, n.integer);
}

/// Positive finite x = 2^e · (1 + f), sqrt(1/2) ≤ 1 + f < sqrt(2).
struct LogReduced {
  float fraction, exponent;
};
TILE_INLINE LogReduced reduce_log(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const int32_t bits = bit_cast<int32_t>(tiny ? x * 8388608.0f : x);
  const int32_t e = (bits - 0x3f3504f3) >> 23;
  const float mantissa = bit_cast<float>(bits - (e << 23));
  return {mantissa - 1.0f, static_cast<float>(e - (tiny ? 23 : 0))};
}
/// log(1 + f) - f for the range above.
TILE_INLINE float log_tail(float f) {
  const float p = polynomial(f, 3.333331673e-01f, -2.500081040e-01f, 2.000228629e-01f, -1.662455412e-01f, 1.418119160e-01f, -1.312875375e-01f, 1.288164957e-01f,
                             -7.859616965e-02f);
  return f * f * (f * p - 0.5f);
}
/// What log gives where it is not a number or not finite, for `result` otherwise.
TILE_INLINE float log_edges(float x, float result) {
  result = x == 0 ? -infinity : result;
  result = x < 0 ? quiet_nan : result;
  return x < infinity ? result : x;  // infinity and NaN give themselves; a negative NaN result stands
}

TILE_INLINE float log(float x) {  // 0.9 ulp
  const LogReduced l = reduce_log(x);
  const float low = l.exponent * -2.12194440e-4f + log_tail(l.fraction);
  return log_edges(x, l.exponent * 0.693359375f + (low + l.fraction));
}

TILE_INLINE float log1p(float x) {  // 0.9 ulp
  const float u = 1.0f + x;
  // What rounding 1 + x lost, relative to u.
  const float lost = (x < 1.0f ? x - (u - 1.0f) : 1.0f - (u - x)) / u;
  const LogReduced l = reduce_log(u);
  const float low = l.exponent * -2.12194440e-4f + (log_tail(l.fraction) + (u > 0 && u < infinity ? lost : 0.0f));
  const float result = log_edges(u, l.exponent * 0.693359375f + (low + l.fraction));
  return __builtin_fabsf(x) < 5.9e-8f ? x : result;
}

TILE_INLINE float log2(float x) {  // 1.3 ulp
  const LogReduced l = reduce_log(x);
  const float tail = log_tail(l.fraction);
  // log2(e) - 1 apart: the leading fraction · 1 stays exact.
  const float low = (l.fraction + tail) * 0.442695041f + tail;
  return log_edges(x, l.exponent + (l.fraction + low));
}

TILE_INLINE float sigmoid(float x) {  // 2.3 ulp
  const float e = exp(-__builtin_fabsf(x));
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

TILE_INLINE float tanh(float x) {  // 2.6 ulp
  const float magnitude = at_most(__builtin_fabsf(x), 9.2f);
  const ExpReduced e = reduce_exp(2.0f * magnitude);
  const float power = bit_cast<float>((e.power + 127) << 23);
  const float m = (e.tail * power + (power - 1.0f)) + e.remainder * power;
  return __builtin_copysignf(m / (m + 2.0f), x);
}

TILE_INLINE float erf(float x) {  // 2.5 ulp
  // 1 - 2^y with y = log2(erfc(|x|)), a polynomial; beyond 3.92 the result is one.
  const float magnitude = at_most(__builtin_fabsf(x), 3.95f);
  const float y = magnitude * polynomial(magnitude, -1.627907038e+00f, -9.184474349e-01f, -1.482795030e-01f, 2.764359862e-02f, 2.053492644e-04f,
                                         -2.374234609e-03f, 8.935045335e-04f, -1.634941727e-04f, 1.256921769e-05f);
  const RoundedPower<float> n = round_power(y);
  const float r = y - n.value;
  const float rest = r * polynomial(r, 6.931471825e-01f, 2.402264923e-01f, 5.550367385e-02f, 9.618306533e-03f, 1.338740811e-03f, 1.538412034e-04f);
  return __builtin_copysignf((1.0f - n.power) - n.power * rest, x);
}

/// sin(x + quarters · π/2). The reduction runs in double: good for |x| < 2^48; beyond, the result is some value in [-1, 1].
TILE_INLINE float sine_from(float x, int32_t quarters) {  // 1.5 ulp
  const double wide = static_cast<double>(x);
  constexpr double shift = 6755399441055744.0;  // 1.5 · 2^52: leaves the nearest integer in the low bits
  const double shifted = wide * 0.63661977236758134308 + shift;
  const double n = shifted - shift;
  const int32_t quadrant = static_cast<int32_t>(bit_cast<int64_t>(shifted)) + quarters;
  const float r = static_cast<float>((wide - n * 1.5707963267948965580) - n * 6.123233995736766036e-17);
  const float s = r * r;
  const float sine = r + r * s * polynomial(s, -1.666666664e-01f, 8.333329374e-03f, -1.983933100e-04f, 2.718274481e-06f);
  const float cosine = 1.0f + (s * s * polynomial(s, 4.166666662e-02f, -1.388888374e-03f, 2.479951589e-05f, -2.720989314e-07f) - 0.5f * s);
  const uint32_t value = bit_cast<uint32_t>((quadrant & 1) != 0 ? cosine : sine);
  return bit_cast<float>(value ^ (static_cast<uint32_t>(quadrant & 2) << 30));
}
TILE_INLINE float sin(float x) {
  const float result = sine_from(x, 0);
  return x == 0 ? x : at_least(at_most(result, 1.0f), -1.0f);
}
TILE_INLINE float cos(float x) { return at_least(at_most(sine_from(x, 1), 1.0f), -1.0f); }

/// |x|^y by base-2 logarithm and exponential in double, then C's rules for the sign and the special cases; third powers, which polynomials of activations
/// have, by two products.
TILE_INLINE float pow(float x, float y) {  // 0.6 ulp; third powers 1.5: half of the last product, one of a square that was rounded
  if (TILE_IS_CONSTANT(y) && y == 3.0f) return x * x * x;
  const float magnitude = __builtin_fabsf(x);
  const LogReduced l = reduce_log(magnitude);
  const double f = static_cast<double>(l.fraction);
  const double t = f / (2.0 + f);
  double log2 = static_cast<double>(l.exponent) + t * polynomial(t * t, 2.88539008179017165e+00, 9.61796673225863374e-01, 5.77083608557527605e-01,
                                                                 4.11671224498887378e-01, 3.40759092459087420e-01);
  log2 = magnitude == 0 ? -__builtin_inf() : log2;
  log2 = magnitude < infinity ? log2 : static_cast<double>(magnitude);
  double exponent = static_cast<double>(y) * log2;
  exponent = exponent > 130.0 ? 130.0 : exponent;
  exponent = exponent < -152.0 ? -152.0 : exponent;
  constexpr double shift = 6755399441055744.0;
  const double shifted = exponent + shift;
  const double r = exponent - (shifted - shift);
  const double p = polynomial(r, 9.99999999961684427e-01, 6.93147180728474366e-01, 2.40226511981556756e-01, 5.55041035340247957e-02, 9.61802725328959711e-03,
                              1.33339225833131042e-03, 1.54692913269542079e-04, 1.52019193451822411e-05);
  const int64_t n = bit_cast<int64_t>(shifted) - bit_cast<int64_t>(shift);
  const double power = bit_cast<double>((n + 1023) << 52);
  float result = static_cast<float>(p * power);
  // Nested selects and no && or ||: short circuits would be branches, which keep a loop from becoming vector code.
  const float half = 0.5f * y;
  const uint32_t odd_sign = __builtin_floorf(half) != half ? 0x80000000u : 0u;
  const uint32_t flip = __builtin_floorf(y) == y ? odd_sign & bit_cast<uint32_t>(x) : 0u;
  const float no_root = __builtin_floorf(y) == y ? result : quiet_nan;
  result = x < 0 ? (x == -infinity ? result : no_root) : result;
  result = bit_cast<float>(bit_cast<uint32_t>(result) ^ flip);
  result = x == x ? (y == y ? result : y) : x;
  const float of_one = __builtin_fabsf(y) == infinity ? 1.0f : result;
  result = magnitude == 1.0f ? of_one : result;
  result = x == 1.0f ? 1.0f : result;
  return y == 0 ? 1.0f : result;
}

}  // namespace detail

/// The type that arithmetic on V happens in.
template <class V>
using compute_t = std::conditional_t<is_storage_float<V>, float, V>;

// One row a function: its name, what float uses, what double uses.
#define TILE_UNARY(name, of_float, of_double)                              \
  template <class V>                                                       \
  TILE_INLINE V name(V x) {                                                \
    if constexpr (is_storage_float<V>) {                                   \
      return store_as<V>(of_float(to_float(x)));                           \
    } else if constexpr (std::is_same_v<V, double>) {                      \
      return of_double(x);                                                 \
    } else {                                                               \
      static_assert(std::is_same_v<V, float>, #name " takes float types"); \
      return of_float(x);                                                  \
    }                                                                      \
  }

TILE_UNARY(exp, detail::exp, __builtin_exp)
TILE_UNARY(exp2, detail::exp2, __builtin_exp2)
TILE_UNARY(expm1, detail::expm1, __builtin_expm1)
TILE_UNARY(log, detail::log, __builtin_log)
TILE_UNARY(log2, detail::log2, __builtin_log2)
TILE_UNARY(log1p, detail::log1p, __builtin_log1p)
TILE_UNARY(tanh, detail::tanh, __builtin_tanh)
TILE_UNARY(erf, detail::erf, __builtin_erf)
TILE_UNARY(sin, detail::sin, __builtin_sin)
TILE_UNARY(cos, detail::cos, __builtin_cos)
TILE_UNARY(sqrt, __builtin_sqrtf, __builtin_sqrt)
// Rare in models: the C library's, one element at a time.
TILE_UNARY(tan, __builtin_tanf, __builtin_tan)
TILE_UNARY(asin, __builtin_asinf, __builtin_asin)
TILE_UNARY(acos, __builtin_acosf, __builtin_acos)
TILE_UNARY(atan, __builtin_atanf, __builtin_atan)
TILE_UNARY(sinh, __builtin_sinhf, __builtin_sinh)
TILE_UNARY(cosh, __builtin_coshf, __builtin_cosh)
TILE_UNARY(asinh, __builtin_asinhf, __builtin_asinh)
TILE_UNARY(acosh, __builtin_acoshf, __builtin_acosh)
TILE_UNARY(atanh, __builtin_atanhf, __builtin_atanh)
TILE_UNARY(floor, __builtin_floorf, __builtin_floor)
TILE_UNARY(ceil, __builtin_ceilf, __builtin_ceil)
TILE_UNARY(trunc, __builtin_truncf, __builtin_trunc)
TILE_UNARY(round, __builtin_rintf, __builtin_rint)  // halves to even, as ONNX Round
#undef TILE_UNARY

/// 1 / (1 + e^-x).
template <class V>
TILE_INLINE V sigmoid(V x) {
  if constexpr (std::is_same_v<V, double>) {
    const double e = __builtin_exp(-__builtin_fabs(x));
    return (x < 0 ? e : 1.0) / (1.0 + e);
  } else {
    return store_as<V>(detail::sigmoid(load_as<float>(x)));
  }
}

template <class V>
TILE_INLINE bool is_nan(V x) {
  if constexpr (is_storage_float<V>) {
    return is_nan(to_float(x));
  } else {
    return x != x;
  }
}
template <class V>
TILE_INLINE bool is_inf(V x) {
  if constexpr (is_storage_float<V>) {
    return is_inf(to_float(x));
  } else if constexpr (std::is_floating_point_v<V>) {
    return x - x != x - x && x == x;
  } else {
    return false;
  }
}

/// Absolute value; the smallest signed integer gives itself.
template <class V>
TILE_INLINE V abs(V x) {
  if constexpr (is_storage_float<V>) {
    return store_as<V>(abs(to_float(x)));
  } else if constexpr (std::is_same_v<V, float>) {
    return __builtin_fabsf(x);
  } else if constexpr (std::is_same_v<V, double>) {
    return __builtin_fabs(x);
  } else if constexpr (std::is_signed_v<V>) {
    using U = std::make_unsigned_t<V>;
    return static_cast<V>(x < 0 ? static_cast<U>(0 - static_cast<U>(x)) : static_cast<U>(x));
  } else {
    return x;
  }
}

/// -1, 0 or 1; NaN gives NaN.
template <class V>
TILE_INLINE V sign(V x) {
  if constexpr (is_storage_float<V>) {
    return store_as<V>(sign(to_float(x)));
  } else {
    const V result = static_cast<V>(static_cast<int>(x > 0) - static_cast<int>(x < 0));
    return x == x ? result : x;
  }
}

/// The larger and the smaller; NaN if either is. `x > y ? x : y` gives y where one is NaN, and is one instruction.
template <class V>
TILE_INLINE V max(V a, V b) {
  if constexpr (is_storage_float<V>) {
    return store_as<V>(max(to_float(a), to_float(b)));
  } else {
    if (TILE_IS_CONSTANT(b) && b == b) return b > a ? b : a;
    const V larger = a > b ? a : b;
    return a != a ? a : larger;
  }
}
template <class V>
TILE_INLINE V min(V a, V b) {
  if constexpr (is_storage_float<V>) {
    return store_as<V>(min(to_float(a), to_float(b)));
  } else {
    if (TILE_IS_CONSTANT(b) && b == b) return b < a ? b : a;
    const V smaller = a < b ? a : b;
    return a != a ? a : smaller;
  }
}
/// min(max(x, low), high): `high` wins when the limits cross.
template <class V>
TILE_INLINE V clamp(V x, V low, V high) {
  return min(max(x, low), high);
}

// Integer division never traps: dividing by zero gives 0 and the smallest value divided by -1 wraps to itself.
namespace detail {
template <class V>
TILE_INLINE bool undefined_quotient(V b) {
  if constexpr (std::is_signed_v<V>) return b == 0 || b == -1;
  return b == 0;
}
template <class V>
TILE_INLINE V negate(V a) {
  using U = std::make_unsigned_t<V>;
  return static_cast<V>(static_cast<U>(U{0} - static_cast<U>(a)));
}
}  // namespace detail

/// Quotient rounded toward zero for integers (ONNX Div), plain division for floats.
template <class V>
TILE_INLINE V div(V a, V b) {
  if constexpr (is_storage_float<V>) {
    return store_as<V>(to_float(a) / to_float(b));
  } else if constexpr (std::is_integral_v<V>) {
    const V safe = detail::undefined_quotient(b) ? V{1} : b;
    const V quotient = static_cast<V>(a / safe);
    return b == 0 ? V{0} : (safe != b ? detail::negate(a) : quotient);
  } else {
    return a / b;
  }
}

/// Remainder with the sign of the dividend (C's % and fmod; ONNX Mod with fmod = 1).
template <class V>
TILE_INLINE V fmod(V a, V b) {
  if constexpr (is_storage_float<V>) {
    return store_as<V>(__builtin_fmodf(to_float(a), to_float(b)));
  } else if constexpr (std::is_same_v<V, float>) {
    return __builtin_fmodf(a, b);
  } else if constexpr (std::is_same_v<V, double>) {
    return __builtin_fmod(a, b);
  } else {
    return static_cast<V>(a % (detail::undefined_quotient(b) ? V{1} : b));
  }
}

/// Remainder with the sign of the divisor (Python's %; ONNX Mod with fmod = 0).
template <class V>
TILE_INLINE V mod(V a, V b) {
  if constexpr (is_storage_float<V>) {
    return store_as<V>(mod(to_float(a), to_float(b)));
  } else {
    const V rest = fmod(a, b);
    if constexpr (std::is_unsigned_v<V>) return rest;
    return rest != 0 && (rest < 0) != (b < 0) ? static_cast<V>(rest + b) : rest;
  }
}

/// Quotient rounded down.
template <class V>
TILE_INLINE V floor_div(V a, V b) {
  if constexpr (std::is_integral_v<V>) {
    const V quotient = div(a, b);
    if constexpr (std::is_unsigned_v<V>) return quotient;
    return fmod(a, b) != 0 && (a < 0) != (b < 0) ? static_cast<V>(quotient - 1) : quotient;
  } else {
    return floor(div(a, b));
  }
}

/// Integers: square and multiply, wrapping; a negative exponent gives 0 except for bases 1 and -1.
template <class V, class E>
TILE_INLINE V pow(V x, E y) {
  if constexpr (is_storage_float<V>) {
    return store_as<V>(detail::pow(to_float(x), load_as<float>(y)));
  } else if constexpr (std::is_same_v<V, float> && !std::is_same_v<E, double>) {
    return detail::pow(x, load_as<float>(y));
  } else if constexpr (std::is_floating_point_v<V>) {
    return static_cast<V>(__builtin_pow(static_cast<double>(x), load_as<double>(y)));
  } else if constexpr (!std::is_integral_v<E>) {
    return static_cast<V>(__builtin_pow(static_cast<double>(x), load_as<double>(y)));
  } else {
    using U = std::make_unsigned_t<V>;
    if constexpr (std::is_signed_v<E>) {
      if (y < 0) return x == 1 ? x : std::is_signed_v<V> && x + 1 == 0 ? (y % 2 == 0 ? V{1} : x) : V{0};
    }
    // Products in 64 bits: narrower unsigned types would promote to int and could overflow it.
    uint64_t base = static_cast<U>(x), result = 1;
    for (auto left = static_cast<uint64_t>(y); left != 0; left >>= 1) {
      if (left & 1) result *= base;
      base *= base;
    }
    return static_cast<V>(static_cast<U>(result));
  }
}

/// Shifts of unsigned integers; by the width or more gives 0.
template <class V>
TILE_INLINE V shift_left(V x, V by) {
  constexpr V width = sizeof(V) * 8;
  return by < width ? static_cast<V>(x << by) : V{0};
}
template <class V>
TILE_INLINE V shift_right(V x, V by) {
  constexpr V width = sizeof(V) * 8;
  return by < width ? static_cast<V>(x >> by) : V{0};
}

}  // namespace tile
