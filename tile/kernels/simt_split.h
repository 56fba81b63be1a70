#pragma once

// Products with few results and long sums, on SIMT machines: parts of the sum become batch entries of a product of its own, and a second launch adds
// them, always in the same order.

#include "tile/kernels/simt_mma_contract.h"

namespace tile::simt {

/// A sum over `k` cut into `parts` of `piece` terms each; the last may have fewer.
struct SplitSum {
  i64 parts = 1, piece = 1, k = 1;

  /// What the product of parts is: out[b · parts + p, m, n] is part p of out[b, m, n].
  TILE_INLINE Extents of(const Extents& e) const { return {e.batch * parts, e.m, e.n, piece}; }
};

/// The factor of the product of parts: what `element(batch, i, k)` gives; nothing behind the sum's end.
template <class F>
TILE_DEVICE auto part_of(const SplitSum& split, const F& element) {
  return [split, &element](i64 batch, i64 i, i64 k) {
    const i64 at = batch % split.parts * split.piece + k;
    using T = std::remove_cvref_t<decltype(element(batch, i, k))>;
    return at < split.k ? element(batch / split.parts, i, at) : T{};
  };
}
template <bool along_k, class F>
TILE_DEVICE auto part_of(const SplitSum& split, const Elements<along_k, F>& factor) {
  return elements<along_k>(part_of(split, factor.element));
}
/// Pieces are equal, and whole pieces of 16 bytes.
template <class F>
TILE_DEVICE auto part_of(const SplitSum& split, const Rows<F>& factor) {
  return rows([split, &factor](i64 batch, i64 i) { return factor.row(batch / split.parts, i) + batch % split.parts * split.piece; });
}

/// Where the product of parts puts its results.
template <class Partial>
TILE_DEVICE auto store_parts(const Extents& e, const Partial& partial) {
  return [e, partial](i64 batch, i64 m, i64 n, auto sum) { partial[(batch * e.m + m) * e.n + n] = sum; };
}

/// store(batch, m, n, sum) of the product with extents `e`, from what its parts left in `partial`. A thread a result.
template <class Sum, class Exec, class Partial, class Store>
TILE_DEVICE void add_parts(Exec& ex, const Extents& e, const SplitSum& split, const Partial& partial, const Store& store) {
  const i64 plane = e.m * e.n, count = e.batch * plane;
  for (i64 p = ex.block() * ex.threads() + ex.thread(); p < count; p += ex.blocks() * ex.threads()) {
    const i64 batch = p / plane, at = p % plane;
    Sum sum{};
    for (i64 part = 0; part < split.parts; ++part) {
      const Sum more = partial[(batch * split.parts + part) * plane + at];
      if constexpr (std::is_floating_point_v<Sum>)
        sum += more;
      else
        sum = wrapping_add(sum, more);
    }
    store(batch, at / e.n, at % e.n, sum);
  }
}

}  // namespace tile::simt
