#pragma once

#include <string>
#include <vector>

#include "artifact/compare.h"
#include "compiler/compile.h"
#include "op/rounding.h"

/// What the reference interpreter says about a model, and where a compiled one leaves it.
namespace tilewright::tools {

std::vector<Tensor> interpret_graph(const Graph& graph, const std::vector<Tensor>& inputs, bool float64);

/// network_tolerance for a result like `expected`, plus what roundings to 16 bits may leave in its elements.
Tolerance tolerance_for(const Tensor& expected, double steps, const HalfError& half = {});

/// By output: what a policy of 16 bits may leave in it; zeros for other policies.
std::vector<HalfError> promised_half_errors(const Graph& compiled, const Precision& precision);

struct TensorError {
  std::string name, op;
  double error = 0, promised = 0;  ///< ‖y − y64‖ / ‖y64‖, and what it may be
};
/// Every float result of the main graph, all stored: what a compiled model makes of it against the same graph in float64 without roundings.
std::vector<TensorError> tensor_errors(const Prepared& model, const CompileOptions& options, const std::filesystem::path& path,
                                       const std::vector<Tensor>& inputs, int threads);

/// One line: the first pass whose graph gives other results than the imported one; else the first node whose compiled result differs from the
/// interpreter's when every result of the main graph is stored; else "none" and what that leaves. Compiles a library of its own.
/// `given`: the library that differs was not compiled just now.
std::string locate_difference(const Prepared& model, const CompileOptions& options, const std::vector<Tensor>& inputs, int threads, bool given);

}  // namespace tilewright::tools
