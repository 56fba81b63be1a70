#pragma once

// Results whose order or number depends on data, on SIMT machines: what tile/kernels/select.h is on CPUs.

#include "tile/kernels/select.h"
#include "tile/kernels/simt_scan.h"

namespace tile::simt {

/// Where element `at` of `length` comes when they are sorted: the greatest first, or the smallest. Equal ones keep their order; NaN is greater than any
/// number. Looks at all of them, so it is for lanes of some thousands.
template <class Element>
TILE_DEVICE i64 rank_of(i64 at, i64 length, bool greatest_first, const Element& element) {
  const auto own = element(at);
  i64 before = 0;
  for (i64 i = 0; i < length; ++i) {
    const int order = greatest_first ? tile::detail::order(own, element(i)) : tile::detail::order(element(i), own);
    before += order < 0 || (order == 0 && i < at) ? 1 : 0;
  }
  return before;
}

/// `take(number, i)` for every i below `length` that `wanted`, numbered in order, by the threads of one block of BlockScan<i64>. Returns how many there are.
template <class Exec, class Wanted, class Take>
TILE_DEVICE i64 number_wanted(Exec& ex, i64 length, const Wanted& wanted, const Take& take) {
  return BlockScan<i64>::run(
      ex, length, i64{0}, true, [&](i64 i) -> i64 { return wanted(i) ? 1 : 0; },
      [&](i64 i, i64 number) {
        if (wanted(i)) take(number, i);
      },
      [](i64 a, i64 b) { return a + b; });
}

}  // namespace tile::simt
