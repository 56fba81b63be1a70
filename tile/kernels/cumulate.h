#pragma once

// Running sums and products along one axis.

#include <type_traits>

#include "tile/exec/args.h"
#include "tile/math.h"

namespace tile {

struct CumulateOptions {
  bool exclusive = false;  ///< element i combines those before it alone; the first is the identity
  bool reverse = false;    ///< from the last to the first
};

/// y[o, i, j] = x[o, 0, j] ∘ … ∘ x[o, i, j] for x and y of shape [outer, length, inner], which may be the same array.
/// `combine(a, b)` works on compute_t<T>, where the running value stays; `identity` is its neutral element.
template <class T, class F>
void cumulate(const T* x, T* y, i64 outer, i64 length, i64 inner, compute_t<T> identity, CumulateOptions options, Team& team, F combine) {
  using V = compute_t<T>;
  if (outer <= 0 || length <= 0 || inner <= 0) return;
  // Columns side by side make vectors; one block of them is a task.
  constexpr i64 width = 64;
  const i64 blocks = (inner - 1) / width + 1;
  const i64 grain = 1 + (1 << 14) / (length * (inner < width ? inner : width));
  team.for_range(outer * blocks, grain, [&](i64 begin, i64 end) {
    for (i64 task = begin; task < end; ++task) {
      const i64 column = task % blocks * width;
      const i64 count = inner - column < width ? inner - column : width;
      V running[width];
      for (i64 j = 0; j < count; ++j) running[j] = identity;
      const i64 base = task / blocks * length * inner + column;
      for (i64 i = 0; i < length; ++i) {
        const i64 at = base + (options.reverse ? length - 1 - i : i) * inner;
        if (options.exclusive) {
          for (i64 j = 0; j < count; ++j) {
            const V value = load_as<V>(x[at + j]);
            y[at + j] = store_as<T>(running[j]);
            running[j] = combine(running[j], value);
          }
        } else {
          for (i64 j = 0; j < count; ++j) {
            running[j] = combine(running[j], load_as<V>(x[at + j]));
            y[at + j] = store_as<T>(running[j]);
          }
        }
      }
    }
  });
}

namespace detail {
/// Integers wrap.
template <class V>
using wrapping = typename std::conditional_t<std::is_integral_v<V>, std::make_unsigned<V>, std::type_identity<V>>::type;
}  // namespace detail

template <class T>
void cumulative_sum(const T* x, T* y, i64 outer, i64 length, i64 inner, CumulateOptions options, Team& team) {
  using V = compute_t<T>;
  using W = detail::wrapping<V>;
  cumulate(x, y, outer, length, inner, V{0}, options, team, [](V a, V b) { return static_cast<V>(static_cast<W>(a) + static_cast<W>(b)); });
}

template <class T>
void cumulative_product(const T* x, T* y, i64 outer, i64 length, i64 inner, CumulateOptions options, Team& team) {
  using V = compute_t<T>;
  // 64 bits: narrow unsigned types would be promoted to int, whose product can overflow.
  using W = std::conditional_t<std::is_integral_v<V>, uint64_t, V>;
  cumulate(x, y, outer, length, inner, V{1}, options, team, [](V a, V b) { return static_cast<V>(static_cast<W>(a) * static_cast<W>(b)); });
}

}  // namespace tile
