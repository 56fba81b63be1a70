#pragma once

// Combining partial results of vector loops: `#pragma omp simd reduction(tile::least : x)` and the like.

#include <cstdint>

#include "tile/cast.h"
#include "tile/math.h"

namespace tile {

#pragma omp declare reduction(least:float : omp_out = min(omp_out, omp_in)) initializer(omp_priv = omp_orig)
#pragma omp declare reduction(least:double : omp_out = min(omp_out, omp_in)) initializer(omp_priv = omp_orig)
#pragma omp declare reduction(greatest:float : omp_out = max(omp_out, omp_in)) initializer(omp_priv = omp_orig)
#pragma omp declare reduction(greatest:double : omp_out = max(omp_out, omp_in)) initializer(omp_priv = omp_orig)

}  // namespace tile
