#pragma once

// Writing to addresses that the data gives. Updates are applied in order by one thread, so that duplicates are well defined:
// the last one wins, and sums do not depend on the number of threads. An index may count from the end (negative); one
// outside its dimension writes nothing and makes the function return false.

#include <type_traits>

#include "tile/exec/args.h"
#include "tile/math.h"

namespace tile {

enum class ScatterReduction { none, add, multiply, min, max };

inline constexpr int scatter_rank = 8;

namespace detail {

template <ScatterReduction reduction, class T>
TILE_INLINE void scatter_one(T& to, T update) {
  using V = compute_t<T>;
  const V a = load_as<V>(to), b = load_as<V>(update);
  if constexpr (reduction == ScatterReduction::none) {
    to = update;
  } else if constexpr (reduction == ScatterReduction::add) {
    using W = std::conditional_t<std::is_integral_v<V>, uint64_t, V>;
    to = store_as<T>(static_cast<V>(static_cast<W>(a) + static_cast<W>(b)));
  } else if constexpr (reduction == ScatterReduction::multiply) {
    using W = std::conditional_t<std::is_integral_v<V>, uint64_t, V>;
    to = store_as<T>(static_cast<V>(static_cast<W>(a) * static_cast<W>(b)));
  } else if constexpr (reduction == ScatterReduction::min) {
    to = store_as<T>(min(a, b));
  } else {
    to = store_as<T>(max(a, b));
  }
}

/// The index counted from the start, or -1 if it is outside.
template <class I>
TILE_INLINE i64 wrap_index(I index, i64 extent) {
  i64 at = static_cast<i64>(index);
  if (at < 0) at += extent;
  return at >= 0 && at < extent ? at : -1;
}

}  // namespace detail

/// y[i0, …, indices[i], …] ∘= updates[i] with the index in place of coordinate `axis`, for every i of `update_shape`, which
/// indices and updates have. y has `shape` and holds the data already; `rank` ≤ 8, update_shape[d] ≤ shape[d] for d ≠ axis.
/// (ONNX ScatterElements.)
template <ScatterReduction reduction, class T, class I>
bool scatter_elements(T* y, const I* indices, const T* updates, int rank, const i64* shape, const i64* update_shape, int axis) {
  i64 strides[scatter_rank], at[scatter_rank] = {};
  i64 stride = 1, count = 1;
  for (int d = rank - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= shape[d];
    count *= update_shape[d];
  }
  bool valid = true;
  i64 base = 0;  // of the coordinates other than axis
  for (i64 i = 0; i < count; ++i) {
    const i64 target = detail::wrap_index(indices[i], shape[axis]);
    if (target >= 0) {
      detail::scatter_one<reduction>(y[base + target * strides[axis]], updates[i]);
    } else {
      valid = false;
    }
    for (int d = rank - 1; d >= 0; --d) {
      if (d != axis) base += strides[d];
      if (++at[d] < update_shape[d]) break;
      if (d != axis) base -= strides[d] * update_shape[d];
      at[d] = 0;
    }
  }
  return valid;
}

/// y[indices[i, 0], …, indices[i, depth-1], …] ∘= updates[i, …]: `count` tuples of `depth` indices into the first dimensions
/// of y's `shape`, each with a slice of `slice` = the product of the other dimensions. (ONNX ScatterND.)
template <ScatterReduction reduction, class T, class I>
bool scatter_slices(T* y, const I* indices, const T* updates, i64 count, int depth, const i64* shape, i64 slice) {
  bool valid = true;
  for (i64 i = 0; i < count; ++i, indices += depth, updates += slice) {
    i64 row = 0;
    bool inside = true;
    for (int d = 0; d < depth; ++d) {
      const i64 at = detail::wrap_index(indices[d], shape[d]);
      inside = inside && at >= 0;
      row = row * shape[d] + (at < 0 ? 0 : at);
    }
    valid = valid && inside;
    if (!inside) continue;
    T* to = y + row * slice;
    for (i64 j = 0; j < slice; ++j) detail::scatter_one<reduction>(to[j], updates[j]);
  }
  return valid;
}

}  // namespace tile
