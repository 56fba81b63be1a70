#pragma once

#include <map>
#include <optional>

#include "pattern/pattern.h"

namespace tilewright::pattern {

/// Evaluates a program of Nests over symbolic integers: `known` are the elements of its operands, the result those of `wanted`. Nothing when
/// an element cannot be told (floats that are not constant, an undecided comparison, another pattern than Nest). Named sizes count as at
/// least 1 where a comparison with 0 or a negative number asks.
std::optional<Dims> evaluate_contents(const Program& program, std::map<TensorId, Dims> known, TensorId wanted);

}  // namespace tilewright::pattern
