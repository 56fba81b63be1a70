#pragma once

#include <map>
#include <string>
#include <vector>

#include "pattern/pattern.h"

namespace tilewright::emulated {

/// By how much, of an output's size, two correct implementations of the program may differ; one entry an output, 0 where all must agree.
///
/// Along the longest way to it, every expression's operation counts one rounding of its dtype (three of f32 and f64, which is what functions keep to),
/// and a sum over K points √K roundings of its accumulator, as a random walk does.
std::vector<double> rounding_errors(const pattern::Program& program, const std::map<std::string, int64_t>& sizes);

}  // namespace tilewright::emulated
