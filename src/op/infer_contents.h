#pragma once

#include "graph/graph.h"

namespace tilewright {

/// Fills in `contents` (and, when all of it is known, `constant`) of a node's small integer results by evaluating its own lowering over size
/// expressions: what makes Shape → Gather → Concat → Reshape chains symbolic without a second set of rules.
void infer_contents(Graph& graph, const Node& node);

}  // namespace tilewright
