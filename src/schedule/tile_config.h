#pragma once

#include <string>
#include <string_view>

namespace tilewright::schedule {

/// So many along the rows of a product's result, and along its columns.
struct Pair {
  int m = 0, n = 0;
  int count() const { return m * n; }
  bool operator==(const Pair&) const = default;
};

/// How a product is cut for blocks of threads: a value that can be listed, printed, stored and replaced.
struct TileConfig {
  enum class Unit {
    fma,    ///< multiply-adds of single values
    mma,    ///< matrix instructions of a warp
    wgmma,  ///< of four warps, which factors come to by bulk copies
  } unit = Unit::fma;
  Pair tile = {};   ///< results of a block
  Pair each = {};   ///< fma: results of a thread
  Pair warps = {};  ///< mma, wgmma: warps of a block, those that multiply
  int depth = 0;    ///< elements of the sum in a stage
  int stages = 1;   ///< pairs of the factors' tiles that shared memory holds
  int group = 1;    ///< rows of tiles that blocks which run together share out column by column
  bool operator==(const TileConfig&) const = default;
};

/// "unit=mma tile=128x128 warps=2x4 depth=32 stages=3 group=8", "unit=fma tile=64x64 each=4x4 depth=16 stages=1 group=1"
std::string print(const TileConfig& config);
/// The inverse. Throws invalid_input naming the word that it cannot read.
TileConfig parse_tile_config(std::string_view text);

const char* name(TileConfig::Unit unit);

}  // namespace tilewright::schedule
