#pragma once

// Kernels whose results have a length that the data decides: they write to buffers of the greatest possible length and
// return the length; and the sorting that they and top-k need.

#include <cstdint>
#include <type_traits>

#include "tile/exec/args.h"
#include "tile/math.h"

namespace tile {

namespace detail {

/// The order of all values: NaN is the greatest and equal to itself, as numpy sorts. Negative, zero or positive.
template <class T>
TILE_INLINE int order(T x, T y) {
  const auto a = load_as<compute_t<T>>(x), b = load_as<compute_t<T>>(y);
  const int a_nan = a != a, b_nan = b != b;
  return static_cast<int>(a > b) - static_cast<int>(a < b) + a_nan - b_nan;
}

template <class T>
TILE_INLINE bool is_nonzero(T x) {
  return load_as<compute_t<T>>(x) != compute_t<T>{};
}

/// Restores the heap below `top`: no parent comes `before` its children, so the last in order is at the top.
template <class Before>
void sift_down(i64* heap, i64 top, i64 count, const Before& before) {
  const i64 moved = heap[top];
  for (;;) {
    i64 child = 2 * top + 1;
    if (child >= count) break;
    if (child + 1 < count && before(heap[child], heap[child + 1])) ++child;
    if (!before(moved, heap[child])) break;
    heap[top] = heap[child];
    top = child;
  }
  heap[top] = moved;
}

/// Sorts `count` numbers so that before(a, b) holds for no b left of a; not stable, so `before` must order all of them.
template <class Before>
void heap_sort(i64* items, i64 count, const Before& before) {
  for (i64 i = count / 2 - 1; i >= 0; --i) sift_down(items, i, count, before);
  for (i64 last = count - 1; last > 0; --last) {
    const i64 greatest = items[0];
    items[0] = items[last];
    items[last] = greatest;
    sift_down(items, 0, last, before);
  }
}

/// The first `k` in order of the numbers 0 … count-1, sorted, in `kept`.
template <class Before>
void first_in_order(i64* kept, i64 k, i64 count, const Before& before) {
  for (i64 i = 0; i < k; ++i) kept[i] = i;
  for (i64 i = k / 2 - 1; i >= 0; --i) sift_down(kept, i, k, before);
  for (i64 i = k; i < count; ++i) {
    if (!before(i, kept[0])) continue;
    kept[0] = i;
    sift_down(kept, 0, k, before);
  }
  heap_sort(kept, k, before);
}

}  // namespace detail

/// Indices of the non-zero elements of an array of `rank` dimensions, in row-major order, written as [rank, result]: all
/// first coordinates, then all second ones… Returns how many; `out` has room for rank · elements. A scalar (rank 0) gives
/// its count and writes nothing. `pitch`: elements from one coordinate's row to the next, the count itself by default.
template <class T>
i64 nonzero(const T* x, int rank, const i64* shape, i64* out, i64 pitch = -1) {
  i64 elements = 1;
  for (int d = 0; d < rank; ++d) elements *= shape[d];
  i64 count = 0;
  for (i64 i = 0; i < elements; ++i) count += detail::is_nonzero(x[i]);
  i64 written = 0;
  for (i64 i = 0; i < elements && rank > 0; ++i) {
    if (!detail::is_nonzero(x[i])) continue;
    i64 rest = i;
    for (int d = rank - 1; d >= 0; --d) {
      out[d * (pitch < 0 ? count : pitch) + written] = rest % shape[d];
      rest /= shape[d];
    }
    ++written;
  }
  return count;
}

/// Positions of the true elements of `condition`; `out` has room for `count`.
template <class T>
i64 compress_indices(const T* condition, i64 count, i64* out) {
  i64 written = 0;
  for (i64 i = 0; i < count; ++i) {
    if (detail::is_nonzero(condition[i])) out[written++] = i;
  }
  return written;
}

struct TopKOptions {
  bool largest = true;
};

/// The k ≤ length first elements along the middle axis of x [outer, length, inner], sorted, and their positions, both
/// [outer, k, inner]. Equal elements: lower position first. NaN is greater than any number. `values` or `positions` may be
/// null.
template <class T>
void top_k(const T* x, i64 outer, i64 length, i64 inner, i64 k, TopKOptions options, T* values, i64* positions, Team& team) {
  if (outer <= 0 || inner <= 0 || k <= 0) return;
  if (k > length) k = length;
  team.for_each(outer * inner, [&](i64 line, int worker) {
    const T* from = x + line / inner * length * inner + line % inner;
    i64* kept = team.scratch_as<i64>(worker, k);
    const int sign = options.largest ? -1 : 1;
    detail::first_in_order(kept, k, length, [&](i64 a, i64 b) {
      const int order = sign * detail::order(from[a * inner], from[b * inner]);
      return order != 0 ? order < 0 : a < b;
    });
    const i64 to = line / inner * k * inner + line % inner;
    for (i64 i = 0; i < k; ++i) {
      if (values != nullptr) values[to + i * inner] = from[kept[i] * inner];
      if (positions != nullptr) positions[to + i * inner] = kept[i];
    }
  });
}

struct UniqueOptions {
  bool sorted = true;  ///< by value; otherwise by first occurrence
};

/// The distinct slices x[:, i, :] of x [outer, length, inner] (outer = inner = 1: the distinct elements), compared
/// lexicographically, NaN equal to NaN. Writes y [outer, result, inner], the position of each one's first occurrence, for
/// each of the `length` slices the number of its equal in y, and how often each occurs. Any output may be null; each has
/// room for `length` slices. Returns how many there are. `pitch`: slices from one outer index of y to the next, the result's
/// number by default.
template <class T>
i64 unique(const T* x, i64 outer, i64 length, i64 inner, UniqueOptions options, T* y, i64* first, i64* inverse, i64* counts, Team& team, i64 pitch = -1) {
  if (length <= 0) return 0;
  auto compare = [&](i64 a, i64 b) {
    for (i64 o = 0; o < outer; ++o) {
      const T* base = x + o * length * inner;
      for (i64 j = 0; j < inner; ++j) {
        const int order = detail::order(base[a * inner + j], base[b * inner + j]);
        if (order != 0) return order;
      }
    }
    return 0;
  };
  i64* order = team.scratch_as<i64>(team.shared_slot(), 4 * length);
  i64 *group = order + length, *leader = group + length, *rank = leader + length;
  for (i64 i = 0; i < length; ++i) order[i] = i;
  detail::heap_sort(order, length, [&](i64 a, i64 b) {
    const int difference = compare(a, b);
    return difference != 0 ? difference < 0 : a < b;
  });
  // Equal slices are neighbours now, each group led by its first occurrence.
  i64 count = 0;
  for (i64 i = 0; i < length; ++i) {
    if (i == 0 || compare(order[i - 1], order[i]) != 0) leader[count++] = order[i];
    group[order[i]] = count - 1;
  }
  // rank[g]: where group g comes in the output.
  if (options.sorted) {
    for (i64 g = 0; g < count; ++g) rank[g] = g;
  } else {
    i64 next = 0;
    for (i64 i = 0; i < length; ++i) {
      if (leader[group[i]] == i) rank[group[i]] = next++;
    }
  }
  if (counts != nullptr) {
    for (i64 g = 0; g < count; ++g) counts[g] = 0;
    for (i64 i = 0; i < length; ++i) ++counts[rank[group[i]]];
  }
  for (i64 i = 0; i < length && inverse != nullptr; ++i) inverse[i] = rank[group[i]];
  for (i64 g = 0; g < count; ++g) {
    if (first != nullptr) first[rank[g]] = leader[g];
    for (i64 o = 0; o < outer && y != nullptr; ++o) {
      const T* from = x + (o * length + leader[g]) * inner;
      T* to = y + (o * (pitch < 0 ? count : pitch) + rank[g]) * inner;
      for (i64 j = 0; j < inner; ++j) to[j] = from[j];
    }
  }
  return count;
}

}  // namespace tile
