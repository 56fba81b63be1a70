#pragma once

#include <vector>

#include "graph/graph.h"

namespace tilewright {

/// How many rounding errors of one unit add up along the graph's longest path, when those within a sum of K terms grow as a random walk
/// does: every operator counts 1, a contraction or sum over K elements √K. Times the dtype's epsilon it is the difference that two correct
/// implementations may have.
double rounding_steps(const Graph& graph);

/// By value: the relative error that roundings to 16 bits may leave in it. Those along a path are independent of each other and
/// add up as a random walk does, ε·√n for n of them with ε the distance from 1 to the next larger value (a rounding errs by ε/√12 on average, which
/// leaves room for networks that enlarge errors a few times). Counted are conversions to 16 bits, weights that are 16 bits
/// already, and operators that give 16-bit results. 0 in a graph of float32 alone.
std::vector<double> half_errors(const Graph& graph);

}  // namespace tilewright
