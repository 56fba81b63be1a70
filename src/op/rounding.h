#pragma once

#include <vector>

#include "graph/graph.h"

namespace tilewright {

/// How many rounding errors of one unit add up along the graph's longest path, when those within a sum of K terms grow as a random walk
/// does: every operator counts 1, a contraction or sum over K elements √K. Times the dtype's epsilon it is the difference that two correct
/// implementations may have.
double rounding_steps(const Graph& graph);

/// Relative errors that n roundings to 16 bits along a path may add up to, with ε the distance from 1 to the next larger value. They are independent
/// of each other: of a whole tensor the errors' mean square grows as a random walk does, but in some element all may point one way. A
/// rounding errs by ε/√12 on average, which leaves room for networks that enlarge errors a few times.
struct HalfError {
  double rms = 0;      ///< ε·√n, of ‖y‖
  double largest = 0;  ///< ε·n, of the largest |y|
};

/// By value. Counted are conversions to 16 bits, weights that are 16 bits already, and operators that give 16-bit results. 0 in a
/// graph of float32 alone. `product_step`: ε of what products round their operands to where no dtype says so (TF32: 2^-10).
std::vector<HalfError> half_errors(const Graph& graph, double product_step = 0);

/// Whether an operator that is no product of the model's lowers to one, or may be fused to one: a Fourier transform, sums of products that broadcast. Such
/// a graph's products cannot be told apart once they are patterns, so that no policy may change them all.
bool hides_products(const Graph& graph);

/// ‖difference‖ / ‖y‖ that two correct implementations of one rounded graph may have, whose float32 parts differ by `wide` (epsilon times
/// rounding_steps): of values that differ by it a share of wide/ε is rounded the other way, by ε, so that n roundings leave √(n·wide·ε).
double repeated_error(const HalfError& half, double wide);

}  // namespace tilewright
