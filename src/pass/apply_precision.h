#pragma once

#include "pass/precision.h"

namespace tilewright {

/// Products whose policy is bf16 or fp16 get operands of that dtype and give float32 results; sums stay float32.
///
/// A tensor is stored in 16 bits where a product reads it: it is rounded once, where it is made. What only moves elements (a reshape, a concatenation,
/// a max pool) between there and the product moves 16-bit ones. Others read the rounded tensor, too, where a relative error of theirs is one of
/// their result; where it is not (differences, powers, sums, comparisons, results of the model), the tensor is held in float32 as well. Weights are
/// rounded here, and large tables that a gather reads. Inputs and outputs of the graph keep their dtypes.
///
/// These products stay float32, unless a rule names them: those of positions and angles (operands made of integers, results that become
/// indices or arguments of a sine), those whose results become logarithms (spectra), and those of quantised operands, which are exact. Whatever a rule says,
/// constants that 16 bits cannot hold keep theirs: beyond the largest float16, or so small that what makes one result loses more than a rounding.
///
/// After the passes that make weights out of constants, before share_common, which joins casts. `report` may be null. Throws invalid_input when a rule of
/// `precision` matches nothing.
void apply_precision(Graph& graph, const Precision& precision, PrecisionReport* report);

}  // namespace tilewright
