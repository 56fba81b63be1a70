#pragma once

// What an element becomes when it changes type, and integer arithmetic that wraps: defined for every value, branch-free, so
// that loops over them become vector code.

#include <cstdint>
#include <limits>
#include <type_traits>

#include "tile/types.h"

namespace tile {

namespace detail {

/// Smallest and largest value of a two's complement integer of `bits` bits.
template <class T, int bits>
inline constexpr T highest_value = static_cast<T>(std::numeric_limits<uint64_t>::max() >> (64 - bits + (std::is_signed_v<T> ? 1 : 0)));
template <class T, int bits>
inline constexpr T lowest_value = std::is_signed_v<T> ? static_cast<T>(-highest_value<T, bits> - 1) : T{0};

template <class To, int bits, class From>
TILE_INLINE To saturate_float(From v) {
  constexpr To low = lowest_value<To, bits>, high = highest_value<To, bits>;
  if constexpr (std::is_same_v<From, float> && bits <= 16) {
    // In integers: compilers join choices between floats into masks, which cost several times as much. The magnitude's bits are ordered
    // as it is; `far` is as far from zero as any value of the type.
    constexpr auto far = __builtin_bit_cast(int32_t, low == 0 ? static_cast<float>(high) : -static_cast<float>(low));
    const auto all = bit_cast<int32_t>(v);
    const int32_t magnitude = all & 0x7fffffff, number = magnitude > 0x7f800000 ? 0 : magnitude, near = number < far ? number : far;
    const auto value = static_cast<int32_t>(bit_cast<float>(near | (all & ~0x7fffffff)));
    const int32_t above = value > int32_t{low} ? value : int32_t{low};
    return static_cast<To>(above < int32_t{high} ? above : int32_t{high});
  }
  const From x = v == v ? v : From{0};
  if constexpr (bits <= (std::is_same_v<From, float> ? 24 : 31)) {
    // The limits are exact in From, and the value between them fits an int32.
    const From above = x < static_cast<From>(low) ? static_cast<From>(low) : x;
    const From between = above > static_cast<From>(high) ? static_cast<From>(high) : above;
    return static_cast<To>(static_cast<int32_t>(between));
  } else {
    // `beyond` is the first power of two that is too large; the largest value itself may not be a From.
    constexpr From beyond = static_cast<From>(high / 2 + 1) * From{2};
    return x >= beyond ? high : x <= static_cast<From>(low) ? low : static_cast<To>(x);
  }
}

template <class To, int bits, class From>
TILE_INLINE To saturate_integer(From v) {
  constexpr To low = lowest_value<To, bits>, high = highest_value<To, bits>;
  if constexpr (std::is_same_v<From, uint64_t>) {
    return v > static_cast<uint64_t>(high) ? high : static_cast<To>(v);
  } else if constexpr (std::is_same_v<To, uint64_t>) {
    return v < 0 ? To{0} : static_cast<To>(v);
  } else {
    using Wide = std::conditional_t<sizeof(From) == 8 || sizeof(To) == 8 || std::is_same_v<From, uint32_t> || std::is_same_v<To, uint32_t>, int64_t, int32_t>;
    const Wide x = static_cast<Wide>(v);
    const Wide above = x < static_cast<Wide>(low) ? static_cast<Wide>(low) : x;
    return static_cast<To>(above > static_cast<Wide>(high) ? static_cast<Wide>(high) : above);
  }
}

}  // namespace detail

/// The integer's low `bits` bits, extended by its sign if it has one.
template <int bits, class T>
TILE_INLINE T wrap_to_bits(T v) {
  if constexpr (bits >= static_cast<int>(sizeof(T)) * 8) {
    return v;
  } else {
    constexpr int drop = 32 - bits;
    const auto raised = static_cast<uint32_t>(v) << drop;
    if constexpr (std::is_signed_v<T>) return static_cast<T>(static_cast<int32_t>(raised) >> drop);
    return static_cast<T>(raised >> drop);
  }
}

/// To an integer of `bits` bits: floats truncate, what is out of range gives the nearest limit, NaN gives 0.
template <class To, int bits = static_cast<int>(sizeof(To)) * 8, class From>
TILE_INLINE To cast_saturate(From v) {
  if constexpr (std::is_same_v<From, bool>) {
    return static_cast<To>(v);
  } else if constexpr (std::is_floating_point_v<From>) {
    return detail::saturate_float<To, bits>(v);
  } else {
    return detail::saturate_integer<To, bits>(v);
  }
}

/// To an integer of `bits` bits, in two's complement; floats truncate to 64 bits first, where NaN gives 0 and
/// what does not fit -2^63.
template <class To, int bits = static_cast<int>(sizeof(To)) * 8, class From>
TILE_INLINE To cast_wrap(From v) {
  if constexpr (std::is_floating_point_v<From>) {
    constexpr From beyond = static_cast<From>(9223372036854775808.0);
    const From x = v == v ? v : From{0};
    const bool fits = x >= -beyond && x < beyond;
    return cast_wrap<To, bits>(fits ? static_cast<int64_t>(x) : std::numeric_limits<int64_t>::min());
  } else {
    return wrap_to_bits<bits>(static_cast<To>(v));
  }
}

// Sums, differences and products in two's complement; plain arithmetic for floats.
#define TILE_WRAPPING(name, operation)                                      \
  template <class V>                                                        \
  TILE_INLINE V name(V a, V b) {                                            \
    if constexpr (std::is_floating_point_v<V>) {                            \
      return a operation b;                                                 \
    } else {                                                                \
      using U = std::conditional_t<sizeof(V) == 8, uint64_t, uint32_t>;     \
      return static_cast<V>(static_cast<U>(a) operation static_cast<U>(b)); \
    }                                                                       \
  }
TILE_WRAPPING(wrapping_add, +)
TILE_WRAPPING(wrapping_sub, -)
TILE_WRAPPING(wrapping_mul, *)
#undef TILE_WRAPPING

}  // namespace tile
