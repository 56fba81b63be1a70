#pragma once

#include "graph/graph.h"

namespace tilewright {

/// How many rounding errors of one unit add up along the graph's longest path, when those within a sum of K terms grow as a random walk
/// does: every operator counts 1, a contraction or sum over K elements √K. Times the dtype's epsilon it is the difference that two correct
/// implementations may have.
double rounding_steps(const Graph& graph);

}  // namespace tilewright
