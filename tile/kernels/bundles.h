#pragma once

// Strips that are prepared together.

#include "tile/types.h"

namespace tile {

/// `count` bundles of `strips` strips: bundles differ by one strip at most.
struct Bundles {
  static constexpr i64 most_strips = 32;  ///< of a bundle of several

  i64 strips, count;

  /// Of windows that reach `reach` rows beyond the last one's first position: of three times as many rows, so that a quarter of what bundles read is prepared
  /// twice, where `most_rows` and the number of strips leave room for these. An even number, where there are several.
  static constexpr Bundles of_windows(i64 strips, i64 strip_rows, i64 reach, i64 most_rows) {
    const auto least = [](i64 a, i64 b) { return a < b ? a : b; };
    const i64 some = least(least(most_rows / strip_rows, (3 * reach + strip_rows - 1) / strip_rows), most_strips), together = some < 1 ? 1 : some;
    return {strips, least(((strips + together - 1) / together + 1) / 2 * 2, strips)};
  }

  constexpr i64 first(i64 bundle) const { return bundle * strips / count; }
  constexpr i64 of(i64 strip) const { return ((strip + 1) * count - 1) / strips; }
  /// Strips of the largest one.
  constexpr i64 together() const { return (strips + count - 1) / count; }
};

}  // namespace tile
