#pragma once

#include <string>
#include <vector>

#include "pattern/pattern.h"

namespace tilewright::source {

/// A value in the text: how it is written, its dtype, and whether it is representable in that dtype as it stands (16-bit and
/// smaller floats are computed in float, and rounded where that can be observed: when stored, cast, compared or rounded to integers).
struct Operand {
  std::string text;
  DType dtype = DType::f32;
  bool exact = true;
};

/// A node that computes from its operands (not a leaf), as an operand of others.
Operand print_operation(const pattern::ExprNode& node, const std::vector<Operand>& args);

/// Conversion between value types without loss of meaning: an accumulator's dtype from the value's.
std::string converted(const Operand& value, DType to);

/// What a node costs, in simple vector operations an element.
int cost_of(const pattern::ExprNode& node);

}  // namespace tilewright::source
