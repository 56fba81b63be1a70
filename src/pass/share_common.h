#pragma once

#include "graph/graph.h"

namespace tilewright {

/// Computes equal nodes (same operator, operands and attributes) once. After simplify: equal things written differently are the same by then.
void share_common(Graph& graph);

}  // namespace tilewright
