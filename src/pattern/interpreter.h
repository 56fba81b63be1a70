#pragma once

#include <functional>
#include <vector>

#include "pattern/pattern.h"

namespace tilewright::pattern {

struct InterpreterOptions {
  enum class Arithmetic {
    as_written,  ///< every expression node is rounded to its dtype; sums accumulate in float64 and are rounded once
    float64,     ///< all float dtypes are held and computed as float64, unrounded; results are f64 tensors
  } arithmetic = Arithmetic::as_written;
  int64_t element_limit = int64_t{1} << 31;  ///< of one tensor; larger ones are refused (invalid_input)
  /// Called for every tensor of the main program after the pattern that writes it.
  std::function<void(TensorId, const Tensor&)> observe;
};

/// Runs a program: the meaning of patterns, slow and obvious. Named sizes take the values that the inputs' dims have. Throws
/// invalid_input naming the input when dims disagree with the program's, or a run-time check fails.
std::vector<Tensor> interpret(const Program& program, const std::vector<Tensor>& inputs, const InterpreterOptions& options = {});

}  // namespace tilewright::pattern
