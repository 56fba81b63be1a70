#pragma once

#include "graph/graph.h"

namespace tilewright {

/// Computes nodes whose operands are all constant with the reference interpreter, and turns known contents of small integer
/// tensors into constants. What would be much larger than its operands (a filled tensor) stays a node. What
/// other passes match on (scalars, weights, axes) becomes plain constants here.
void fold_constants(Graph& graph);

}  // namespace tilewright
