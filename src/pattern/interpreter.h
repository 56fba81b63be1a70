#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "pattern/pattern.h"

namespace tilewright::pattern {

struct InterpreterOptions {
  enum class Arithmetic {
    /// Every expression node is computed in float64 or int64 and rounded to its dtype (so + - * / and sqrt on f32 are exactly
    /// IEEE's). Sums and products over coordinates accumulate in float64 and are rounded to the accumulator's dtype once, at the end.
    as_written,
    /// All float dtypes are held and computed as float64, unrounded; integers stay exact, casts to integers and to floats of 8 bits or
    /// fewer (quantisation) do what they say. Float results are f64 tensors.
    float64,
  } arithmetic = Arithmetic::as_written;
  int64_t element_limit = int64_t{1} << 31;  ///< of one tensor; larger ones are refused (invalid_input)
  int64_t byte_limit = int64_t{1} << 36;     ///< of all tensors alive at once, 8 bytes an element
  int64_t point_limit = int64_t{1} << 42;    ///< points of iteration spaces computed in all; one for each pattern and loop iteration too
  /// Called for every tensor of the main program after each pattern that writes it.
  std::function<void(TensorId, const Tensor&)> observe;
};

/// Runs a program: the meaning of patterns. Named sizes take the values that the inputs' dims have. Throws invalid_input naming the
/// input when its dtype or dims disagree with the program's, when a run-time check fails, or when a limit is reached.
std::vector<Tensor> interpret(const Program& program, const std::vector<Tensor>& inputs, const InterpreterOptions& options = {});

/// What `interpret` gives for a program that only moves one constant (a transposition, a slice), without holding its elements in 8 bytes
/// each meanwhile; nullopt for every other program.
std::optional<Tensor> move_constant(const Program& program);

}  // namespace tilewright::pattern
