#pragma once

#include "graph/graph.h"

namespace tilewright {

/// Constants passed into bodies of if and loop become constants there, and what no body reads is no longer passed; an if whose condition is known becomes the
/// branch it takes. Before fold_constants has its second turn, so that bodies fold too.
void simplify_control(Graph& graph);

}  // namespace tilewright
