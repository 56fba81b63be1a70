#pragma once

// Vectors: a value type over the compiler's vector extensions, and the one place that knows how wide the machine is.

#include <cstddef>
#include <cstdint>

#include "tile/types.h"

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
