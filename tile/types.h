#pragma once

// Storage types that C++ lacks, and the conversions between what is stored and what is computed with.
//
// Every element takes whole bytes in memory; 4- and 2-bit integers lie one in an int8_t/uint8_t. The small floats are structs
// with their bits inside and no arithmetic: load_as<float>(x) and store_as<T>(v) convert, rounding to nearest even. All
// conversions are branch-free on integers and floats of 32 bits, so loops over them vectorise.
// Formats and overflow rules: ONNX "Float stored in 8 bits", "Float stored in 4 bits" and the Cast operator.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__) || defined(__HIPCC__)
/// What threads of a SIMT machine run.
#define TILE_DEVICE __device__
/// Small functions that loops must see through to become vector code.
#define TILE_INLINE __host__ __device__ inline __attribute__((always_inline))
/// Whether the compiler sees the value while optimising.
#define TILE_IS_CONSTANT(value) false
#else
#define TILE_DEVICE
#define TILE_INLINE inline __attribute__((always_inline))
#define TILE_IS_CONSTANT(value) __builtin_constant_p(value)
#endif
/// Large ones that are called from several places and seldom: one copy keeps compiling quick.
#define TILE_NOINLINE __attribute__((noinline))

namespace tile {

using i64 = int64_t;

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};
struct f8e4m3fn {
  uint8_t bits;
};
struct f8e4m3fnuz {
  uint8_t bits;
};
struct f8e5m2 {
  uint8_t bits;
};
struct f8e5m2fnuz {
  uint8_t bits;
};
struct f8e8m0 {
  uint8_t bits;
};
struct f4e2m1 {
  uint8_t bits;
};  ///< in the low four bits

// The compiler's own binary16, where loops of its conversions become vector code: clang. g++ 12 converts one element at a
// time, which is slower than the integer arithmetic below in vectors.
#if defined(__clang__) && defined(__aarch64__)
#define TILE_NATIVE_HALF __fp16
#elif defined(__clang__) && defined(__AVX512FP16__)
#define TILE_NATIVE_HALF _Float16
#endif

template <class To, class From>
TILE_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the number of bits");
  return __builtin_bit_cast(To, from);
}

namespace detail {

/// A float format of a sign, exponent and mantissa: 2^(e - bias) · 1.m, subnormals for e = 0.
struct SmallFloat {
  int mantissa, bias;
  uint32_t sign;       ///< the sign bit; the bits below it are the magnitude
  uint32_t greatest;   ///< the magnitude of the largest finite value
  uint32_t overflow;   ///< what a value beyond it becomes without saturation: infinity or NaN
  uint32_t nan;        ///< magnitude of NaN
  bool unsigned_zero;  ///< "fnuz": no negative zero, its code is the only NaN
};

template <class T>
inline constexpr bool is_small_float = false;
template <class T>
inline constexpr SmallFloat format_of{};
template <>
inline constexpr SmallFloat format_of<float16>{10, 15, 0x8000, 0x7bff, 0x7c00, 0x7e00, false};
template <>
inline constexpr SmallFloat format_of<f8e4m3fn>{3, 7, 0x80, 0x7e, 0x7f, 0x7f, false};
template <>
inline constexpr SmallFloat format_of<f8e4m3fnuz>{3, 8, 0x80, 0x7f, 0x80, 0x80, true};
template <>
inline constexpr SmallFloat format_of<f8e5m2>{2, 15, 0x80, 0x7b, 0x7c, 0x7e, false};
template <>
inline constexpr SmallFloat format_of<f8e5m2fnuz>{2, 16, 0x80, 0x7f, 0x80, 0x80, true};
// No infinity and no NaN: overflow always saturates, and NaN has no better place than zero (negative, as ONNX's own data).
template <>
inline constexpr SmallFloat format_of<f4e2m1>{1, 1, 0x8, 0x7, 0x7, 0x8, false};
template <>
inline constexpr bool is_small_float<float16> = true;
template <>
inline constexpr bool is_small_float<f8e4m3fn> = true;
template <>
inline constexpr bool is_small_float<f8e4m3fnuz> = true;
template <>
inline constexpr bool is_small_float<f8e5m2> = true;
template <>
inline constexpr bool is_small_float<f8e5m2fnuz> = true;
template <>
inline constexpr bool is_small_float<f4e2m1> = true;

/// 2^e as a float, for a normal result.
constexpr float power_of_two(int e) { return __builtin_bit_cast(float, static_cast<uint32_t>(e + 127) << 23); }

template <class T>
TILE_INLINE float widen(uint32_t bits) {
  constexpr SmallFloat f = format_of<T>;
  const uint32_t magnitude = bits & (f.sign - 1);
  // The exponent and mantissa fields, put where float has them, are off by a power of two alone; subnormals too.
  const float scaled = bit_cast<float>(magnitude << (23 - f.mantissa)) * power_of_two(127 - f.bias);
  uint32_t out = bit_cast<uint32_t>(scaled);
  if constexpr (f.unsigned_zero) {
    out = bits == f.sign ? 0x7fc00000u : out;
  } else if constexpr (f.overflow == f.greatest + 1 && f.nan != f.overflow) {  // has infinities
    out = magnitude >= f.overflow ? 0x7f800000u | (magnitude - f.overflow) << (23 - f.mantissa) : out;
    out = magnitude > f.overflow ? out | 0x00400000u : out;
  } else if constexpr (f.nan < f.sign) {
    out = magnitude >= f.nan ? 0x7fc00000u : out;
  }
  constexpr int sign_shift = f.sign == 0x8000 ? 16 : f.sign == 0x80 ? 24 : 28;
  return bit_cast<float>(out | (bits & f.sign) << sign_shift);
}

template <class T, bool saturate>
TILE_INLINE uint32_t narrow(float value) {
  constexpr SmallFloat f = format_of<T>;
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  constexpr int drop = 23 - f.mantissa;
  // Normal results: round the mantissa in place, carrying into the exponent, and re-bias.
  constexpr uint32_t rebias = static_cast<uint32_t>(127 - f.bias) << f.mantissa;
  const uint32_t normal = ((magnitude + ((1u << (drop - 1)) - 1) + (magnitude >> drop & 1)) >> drop) - rebias;
  // Subnormal results: adding a power of two whose last place is the format's smallest value lets the addition round.
  constexpr float anchor = power_of_two(1 - f.bias - f.mantissa + 23);
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + anchor) - bit_cast<uint32_t>(anchor);
  constexpr uint32_t smallest_normal = static_cast<uint32_t>(128 - f.bias) << 23;
  uint32_t out = magnitude < smallest_normal ? subnormal : normal;
  out = out > f.greatest ? (saturate ? f.greatest : f.overflow) : out;
  uint32_t sign = bits >> 31 != 0 ? f.sign : 0;
  if constexpr (f.unsigned_zero) sign = out == 0 || out == f.sign ? 0 : sign;
  out |= sign;
  if constexpr (f.nan < f.sign) return magnitude > 0x7f800000u ? f.nan | sign : out;
  return magnitude > 0x7f800000u ? f.nan : out;
}

/// The float nearest to `value` whose last bit says whether anything was lost, so that rounding it once more to a
/// shorter format gives what rounding `value` itself would.
TILE_INLINE float round_to_odd(double value) {
  const float near = static_cast<float>(value);
  const uint32_t bits = bit_cast<uint32_t>(near);
  const double back = near;
  const bool inexact = back != value && value == value;
  const bool outward = __builtin_fabs(back) > __builtin_fabs(value);
  const uint32_t truncated = inexact && outward ? bits - 1 : bits;
  return bit_cast<float>(inexact ? truncated | 1 : bits);
}

}  // namespace detail

enum class E8M0Rounding { up, down, nearest };

/// A power of two (the scale type of block formats): negative values and NaN give NaN (0xff), zero the smallest scale.
template <bool saturate = true>
TILE_INLINE f8e8m0 to_f8e8m0(float value, E8M0Rounding rounding = E8M0Rounding::up) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t exponent = magnitude >> 23;
  const uint32_t mantissa = magnitude & 0x7fffffu;
  // In the lowest binade 2^-127 is the subnormal 0x400000, and its half way to 2^-126 is 0x600000.
  const bool lowest = exponent == 0;
  const uint32_t exact = lowest ? 0x400000u : 0u, half = lowest ? 0x600000u : 0x400000u;
  if (rounding == E8M0Rounding::up) exponent += mantissa > exact;
  if (rounding == E8M0Rounding::nearest) exponent += mantissa >= half;
  exponent = exponent > 254 ? (saturate ? 254 : 255) : exponent;
  const bool invalid = magnitude > 0x7f800000u || (bits >> 31 != 0 && magnitude != 0);
  return {static_cast<uint8_t>(invalid ? 255 : exponent)};
}

TILE_INLINE float to_float(float value) { return value; }
TILE_INLINE float to_float(bfloat16 value) { return bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }
TILE_INLINE float to_float(float16 value) {
#ifdef TILE_NATIVE_HALF
  return static_cast<float>(bit_cast<TILE_NATIVE_HALF>(value.bits));
#else
  return detail::widen<float16>(value.bits);
#endif
}
template <class T>
requires detail::is_small_float<T> TILE_INLINE float to_float(T value) { return detail::widen<T>(value.bits); }
TILE_INLINE float to_float(f8e8m0 value) {
  const uint32_t e = value.bits;
  const uint32_t bits = e == 0 ? 0x00400000u : e << 23;
  return bit_cast<float>(e == 255 ? 0x7fc00000u : bits);
}

/// Whether T is one of the structs above.
template <class T>
inline constexpr bool is_storage_float = detail::is_small_float<T> || std::is_same_v<T, bfloat16> || std::is_same_v<T, f8e8m0>;

template <class T>
inline constexpr bool is_short_float = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

/// The value that `value` stands for, as V (float, double or an integer type).
template <class V, class T>
TILE_INLINE V load_as(T value) {
  if constexpr (is_storage_float<T>) {
    return static_cast<V>(to_float(value));
  } else {
    return static_cast<V>(value);
  }
}

/// Rounds `value` (float, double or integer) to T. `saturate` decides what f8 types do with values beyond their largest:
/// it, or infinity/NaN. Conversion to an integer type is C++'s: toward zero, and defined only in range.
template <class T, bool saturate = true, class V>
TILE_INLINE T store_as(V value) {
  if constexpr (!is_storage_float<T>) {
    return static_cast<T>(value);
  } else if constexpr (std::is_same_v<V, double> || (std::is_integral_v<V> && sizeof(V) > 2)) {
    // Integers up to 2^53 are exact doubles; beyond, the second rounding is harmless for formats this short.
    return store_as<T, saturate>(detail::round_to_odd(static_cast<double>(value)));
  } else if constexpr (!std::is_same_v<V, float>) {
    return store_as<T, saturate>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    const uint32_t bits = bit_cast<uint32_t>(value);
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return {static_cast<uint16_t>(nan ? bits >> 16 | 0x40u : rounded)};
  } else if constexpr (std::is_same_v<T, f8e8m0>) {
    return to_f8e8m0<saturate>(value);
  } else if constexpr (std::is_same_v<T, float16>) {
#ifdef TILE_NATIVE_HALF
    return {bit_cast<uint16_t>(static_cast<TILE_NATIVE_HALF>(value))};
#else
    return {static_cast<uint16_t>(detail::narrow<float16, false>(value))};
#endif
  } else {
    return {static_cast<uint8_t>(detail::narrow<T, saturate>(value))};
  }
}

}  // namespace tile
