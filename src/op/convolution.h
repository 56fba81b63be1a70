#pragma once

#include "op/op.h"

namespace tilewright {

/// Dims of the result [n, m, positions…] of operands x [n, c, spatial…], w [m, c/groups, kernel…] and, when there is one, the bias [m] as
/// operand `bias`.
Dims convolved_dims(const InferContext& c, int bias);

/// out[n, m, o…] = bias[m] + Σ over c, k… of columns[n, c, (o, k)…] · w[m, c, k…] within each group. `view`: n, c, (o, k)… → `columns`; where it
/// is invalid stands 0.
void emit_convolution(Lowering& l, pattern::TensorId columns, pattern::Map view, int bias);

}  // namespace tilewright
