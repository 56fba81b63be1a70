#pragma once

// Running sums and products on SIMT machines.

#include "tile/exec/simt.h"

namespace tile::simt {

/// By the threads of a block together: for few and long ones. V: the running value.
template <class V>
struct BlockScan {
  static constexpr int threads = 256, most_warps = threads / 32, shared_bytes = most_warps * static_cast<int>(sizeof(V));

  /// `store(i, v)` for i below `length`, v being value(0) ∘ … ∘ value(i), with `exclusive` without value(i). `combine` is associative, `identity` neutral.
  /// Returns what all values combine to.
  template <class Exec, class Value, class Store, class Combine>
  static TILE_DEVICE V run(Exec& ex, i64 length, V identity, bool exclusive, const Value& value, const Store& store, const Combine& combine) {
    const auto totals = ex.template shared<V>(0, most_warps);
    V before = identity;  // of all rounds before this one
    for (i64 first = 0; first < length; first += threads) {
      const i64 i = first + ex.thread();
      V through = i < length ? value(i) : identity;
      for (int step = 1; step < Exec::warp_size; step *= 2) {
        const V other = ex.shuffle(through, ex.lane() >= step ? ex.lane() - step : 0);
        if (ex.lane() >= step) through = combine(other, through);
      }
      V until = ex.shuffle(through, ex.lane() > 0 ? ex.lane() - 1 : 0);
      if (ex.lane() == 0) until = identity;
      if (ex.lane() == Exec::warp_size - 1) totals[ex.warp()] = through;
      ex.sync();
      V left = before;
      for (int warp = 0; warp < threads / Exec::warp_size; ++warp) {
        const V total = totals[warp];
        if (warp < ex.warp()) left = combine(left, total);
        before = combine(before, total);
      }
      ex.sync();
      if (i < length) store(i, combine(left, exclusive ? until : through));
    }
    return before;
  }
};

}  // namespace tile::simt
