#pragma once

#include "graph/graph.h"

namespace tilewright {

/// Algebra that holds to the bit for every value: x·1, x/1, x¹, x − 0, x + (−0), integer x + 0, x² = x·x, −(−x), casts and movements that do
/// nothing or join, neighbouring slices that are concatenated. Float x + 0 stays (−0 + 0 is 0), as does x·0. After fold_constants, which makes the neutral
/// elements visible; before share_common.
void simplify(Graph& graph);

}  // namespace tilewright
