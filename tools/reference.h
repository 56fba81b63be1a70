#pragma once

#include <string>
#include <vector>

#include "artifact/compare.h"
#include "compiler/compile.h"

/// What the reference interpreter says about a model, and where a compiled one leaves it.
namespace tilewright::tools {

std::vector<Tensor> interpret_graph(const Graph& graph, const std::vector<Tensor>& inputs, bool float64);

/// network_tolerance for a result like `expected`.
Tolerance tolerance_for(const Tensor& expected, double steps);

/// One line: the first pass whose graph gives other results than the imported one; else the first node whose compiled result differs from the
/// interpreter's when every result of the main graph is stored; else "none" and what that leaves. Compiles a library of its own.
/// `given`: the library that differs was not compiled just now.
std::string locate_difference(const Prepared& model, const CompileOptions& options, const std::vector<Tensor>& inputs, int threads, bool given);

}  // namespace tilewright::tools
