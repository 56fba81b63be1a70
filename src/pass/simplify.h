#pragma once

#include "graph/graph.h"

namespace tilewright {

/// Algebra that holds exactly for every value (x·1, x+0 is left to integers and -0-free cases, --x, casts and movements that do nothing or join). After
/// fold_constants, which makes the neutral elements visible; before share_common.
void simplify(Graph& graph);

}  // namespace tilewright
