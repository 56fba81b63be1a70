#pragma once

#include "graph/graph.h"

namespace tilewright {

/// conv(a·s, w·t, b) = conv(a, w)·(s·t) + b, and the same for matmul, where a and w are integers cast to f32, s is one constant and t one or one
/// for each output channel: products of dequantised operands. Sums of products of small integers are exact in f32, so that the result is
/// rounded once instead of in every term, and does not depend on the order of addition. Before fold_constants, which turns dequantised
/// weights into plain ones.
void hoist_scales(Graph& graph);

}  // namespace tilewright
