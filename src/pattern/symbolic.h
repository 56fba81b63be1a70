#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "pattern/pattern.h"

namespace tilewright::pattern {

/// Evaluates a program of Nests over symbolic integers: `known` are the elements of its operands, the result those of `wanted`. Nothing when
/// an element cannot be told: an undecided comparison, a float that is no integer, another pattern than Nest, maps with named sizes.
/// Named sizes count as at least 1 where a comparison asks, those in `possibly_zero` (learned while running) as at least 0.
/// Floats that hold sizes (a shape cast to f32, say) are followed as exact integers, so below 2^24 in f32 they agree with the model.
std::optional<Dims> evaluate_contents(const Program& program, std::map<TensorId, Dims> known, TensorId wanted, const std::set<std::string>& possibly_zero = {});

}  // namespace tilewright::pattern
