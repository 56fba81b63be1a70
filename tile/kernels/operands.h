#pragma once

// The operands of contract(): views that know how to write themselves as panels.
//
// An operand is a function of (batch, outer, k): outer is the row m for the left operand and the column n for the right
// one, k is what the product sums over. A panel holds `width` neighbouring outer indices, one k after another:
//   panel[k * width + i] = operand(batch, outer0 + i, k0 + k), zero where outer0 + i ≥ the count asked for.
// Every operand has
//   value_type                                 what it stores,
//   within_byte                                whether all its values lie in [-255, 255] (8-bit types less a zero point),
//   pack<width>(P* panel, batch, outer0, count, k0, depth)   converting to the panel's type P.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tile/exec/args.h"
#include "tile/exec/simd.h"
#include "tile/types.h"

namespace tile {

/// Offset of a batch entry, in elements: the default way for operands to find theirs. Any functor i64(i64 batch) may stand
/// in its place, for batch dimensions that broadcast or do not lie evenly.
struct BatchStride {
  i64 stride = 0;
  i64 operator()(i64 batch) const { return batch * stride; }
};

namespace detail {

template <class T>
inline constexpr bool is_byte = std::is_integral_v<T> && sizeof(T) == 1;

/// A stored value as panel type P. Integers wider than P wrap, as products of P would.
template <class P, class T>
TILE_INLINE P panel_value(T value, int32_t zero) {
  if constexpr (is_byte<T>) {
    return static_cast<P>(static_cast<int32_t>(value) - zero);
  } else {
    return load_as<P>(value);
  }
}

template <int width, class P>
TILE_INLINE void zero_rest(P* row, i64 count) {
  for (i64 i = count; i < width; ++i) row[i] = P{};
}

}  // namespace detail

/// A strided matrix per batch entry: element (outer, k) lies at data[batch(b) + outer · outer_stride + k · k_stride].
template <class T, class Batch = BatchStride>
struct Dense {
  using value_type = T;
  static constexpr bool within_byte = detail::is_byte<T>;

  const T* data;
  i64 outer_stride, k_stride;
  Batch batch{};
  int32_t zero = 0;  ///< subtracted from 8-bit integers

  const T* at(i64 b, i64 outer, i64 k) const { return data + batch(b) + outer * outer_stride + k * k_stride; }

  /// The first `depth` elements of an outer index.
  template <i64 depth, class P>
  TILE_INLINE void copy_line(P* to, i64 b, i64 outer) const {
    if (k_stride != 1) return pack<1>(to, b, outer, 1, 0, depth);
    const T* const from = at(b, outer, 0);
    i64 k = 0;
    if constexpr (std::is_same_v<T, P>) {  // vectors, lest the compiler see a block of bytes and move it as one
      for (; depth - k >= lanes<P>; k += lanes<P>) store(to + k, load(from + k));
    }
    for (; k < depth; ++k) to[k] = detail::panel_value<P>(from[k], zero);
  }
  /// Those elements come nearer, where they lie side by side: copy_line() will want them.
  template <i64 depth>
  TILE_INLINE void fetch_line(i64 b, i64 outer) const {
    if (k_stride != 1) return;
    const char* const from = reinterpret_cast<const char*>(at(b, outer, 0));
    for (i64 byte = 0; byte < depth * static_cast<i64>(sizeof(T)); byte += 64) __builtin_prefetch(from + byte);
  }

  template <int width, class P>
  TILE_NOINLINE void pack(P* panel, i64 b, i64 outer0, i64 count, i64 k0, i64 depth) const {
    const T* from = at(b, outer0, k0);
    if (outer_stride == 1) {
      if (count == width) {
        for (i64 k = 0; k < depth; ++k, panel += width, from += k_stride) {
          // Rows far apart come from as many pages, where machines do not look ahead themselves.
          for (i64 byte = 0; byte < width * static_cast<i64>(sizeof(T)); byte += 64)
            __builtin_prefetch(reinterpret_cast<const char*>(from + 16 * k_stride) + byte);
#pragma omp simd
          for (int i = 0; i < width; ++i) panel[i] = detail::panel_value<P>(from[i], zero);
        }
        return;
      }
      for (i64 k = 0; k < depth; ++k, panel += width, from += k_stride) {
        for (i64 i = 0; i < count; ++i) panel[i] = detail::panel_value<P>(from[i], zero);
        detail::zero_rest<width>(panel, count);
      }
      return;
    }
    // Sixteen k of one outer index share a cache line where k_stride is 1; their rows of the panel stay in L1 meanwhile.
    for (i64 k = 0; k < depth; k += strip) {
      const i64 here = depth - k < strip ? depth - k : strip;
      P* to = panel + k * width;
      i64 i = 0;
      if constexpr (std::is_same_v<T, P> && std::is_same_v<P, float>) {
        constexpr int at_once = width < lanes<P> ? width : lanes<P>;
        if constexpr (2 * at_once >= lanes<P>) {
          if (k_stride == 1 && here == strip)
            for (; count - i >= at_once; i += at_once) turn<width, at_once>(from + i * outer_stride + k, to + i);
        }
      }
      for (; i < count; ++i) {
        const T* line = from + i * outer_stride + k * k_stride;
        if (here == strip) {
          TILE_UNROLL
          for (i64 s = 0; s < strip; ++s) to[s * width + i] = detail::panel_value<P>(line[s * k_stride], zero);
        } else {
          for (i64 s = 0; s < here; ++s) to[s * width + i] = detail::panel_value<P>(line[s * k_stride], zero);
        }
      }
      for (i64 s = 0; s < here; ++s) detail::zero_rest<width>(to + s * width, count);
    }
  }

 private:
  /// Sixteen k of `count` outer indices, at most as many as a vector has lanes, by way of registers.
  static constexpr i64 strip = 16;
  template <int width, int count>
  TILE_INLINE void turn(const float* from, float* to) const {
    for (i64 s = 0; s < strip; s += lanes<float>) {
      vec<float> rows[lanes<float>] = {};
      TILE_UNROLL
      for (int i = 0; i < count; ++i) rows[i] = load(from + i * outer_stride + s);
      transpose<float>(rows);
      TILE_UNROLL
      for (int i = 0; i < lanes<float>; ++i) __builtin_memcpy(to + (s + i) * width, &rows[i], count * sizeof(float));
    }
  }
};

/// The left operand from a matrix of rows m and columns k.
template <class T, class Batch = BatchStride>
Dense<T, Batch> dense_left(const T* data, i64 row_stride, i64 column_stride, Batch batch = {}, int32_t zero = 0) {
  return {data, row_stride, column_stride, batch, zero};
}
/// The right operand from a matrix of rows k and columns n.
template <class T, class Batch = BatchStride>
Dense<T, Batch> dense_right(const T* data, i64 row_stride, i64 column_stride, Batch batch = {}, int32_t zero = 0) {
  return {data, column_stride, row_stride, batch, zero};
}

/// An operand that already lies in panels of `width`: the panel of outer indices [p · width, (p + 1) · width) holds all k
/// and begins at element p · width · depth; the last one is padded with zeros. See packed_size() and pack().
/// `byte_values` promises values in [-255, 255] (zero points already subtracted) whatever T is.
template <class T, int width_, bool byte_values = detail::is_byte<T>, class Batch = BatchStride>
struct Packed {
  using value_type = T;
  static constexpr bool within_byte = byte_values;
  static constexpr int width = width_;

  const T* data;
  i64 depth;  ///< the whole extent of k
  Batch batch{};

  const T* panel_at(i64 b, i64 outer, i64 k) const { return data + batch(b) + outer * depth + k * width; }

  template <int panel_width, class P>
  TILE_NOINLINE void pack(P* panel, i64 b, i64 outer0, i64, i64 k0, i64 rows) const {
    static_assert(panel_width == width, "the weights were packed for another register block; repack them for this one");
    const T* from = panel_at(b, outer0, k0);
    const i64 count = rows * width;
#pragma omp simd
    for (i64 i = 0; i < count; ++i) panel[i] = detail::panel_value<P>(from[i], 0);
  }
};

/// Elements that `outer` × `depth` values take in panels of `width`.
constexpr i64 packed_size(i64 outer, i64 depth, int width) { return (outer + width - 1) / width * width * depth; }

/// Writes the panels that Packed reads; `element(outer, k)` gives the values. For the compiler and for tests.
template <class T, class F>
void pack(T* to, i64 outer, i64 depth, int width, F&& element) {
  for (i64 first = 0; first < outer; first += width) {
    for (i64 k = 0; k < depth; ++k) {
      for (i64 i = first; i < first + width; ++i) *to++ = i < outer ? static_cast<T>(element(i, k)) : T{};
    }
  }
}

/// Any function (batch, outer, k) -> value. The general fallback; one call an element.
template <class F>
struct Mapped {
  using value_type = std::remove_cvref_t<std::invoke_result_t<F, i64, i64, i64>>;
  static constexpr bool within_byte = detail::is_byte<value_type>;

  F element;

  template <int width, class P>
  TILE_NOINLINE void pack(P* panel, i64 b, i64 outer0, i64 count, i64 k0, i64 depth) const {
    for (i64 k = 0; k < depth; ++k, panel += width) {
      for (i64 i = 0; i < count; ++i) panel[i] = detail::panel_value<P>(element(b, outer0 + i, k0 + k), 0);
      detail::zero_rest<width>(panel, count);
    }
  }
};
template <class F>
Mapped(F) -> Mapped<F>;

}  // namespace tile
