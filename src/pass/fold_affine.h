#pragma once

#include "graph/graph.h"

namespace tilewright {

/// conv(x, w, b)·s + t = conv(x, w·s, b·s + t) for constants s, t along the output channels: batch norms, as importers decompose them, vanish
/// into the convolution before. The same for conv_transpose. The products are formed in float64. After fold_constants (s and t are
/// computed from four parameters), before share_common.
void fold_affine(Graph& graph);

}  // namespace tilewright
