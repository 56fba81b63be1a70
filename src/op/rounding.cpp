#include "op/rounding.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace tilewright {
namespace {

/// Elements summed for one result; sizes known at run time only count as 64.
double terms_of(const Graph& graph, const Node& node) {
  const auto count = [](const Dims& dims) {
    double product = 1;
    for (const Dim& dim : dims) product *= dim.is_constant() ? static_cast<double>(dim.constant()) : 64.0;
    return product;
  };
  const auto ratio = [&](const Dims& in, const Dims& out) { return std::max(1.0, count(in) / std::max(1.0, count(out))); };
  if (node.op == "matmul") return graph.type(node.inputs[0]).dims.empty() ? 1.0 : count({graph.type(node.inputs[0]).dims.back()});
  if (node.op == "conv") return count(Dims(graph.type(node.inputs[1]).dims.begin() + 1, graph.type(node.inputs[1]).dims.end()));
  if (node.op == "conv_transpose") return count(graph.type(node.inputs[1]).dims) / std::max(1.0, count({graph.type(node.inputs[1]).dims[1]}));
  if (node.op == "reduce_sum" || node.op == "reduce_mean" || node.op == "reduce_product")
    return ratio(graph.type(node.inputs[0]).dims, graph.type(node.outputs[0]).dims);
  if (node.op == "einsum" || node.op == "cumulate" || node.op == "dft")
    return count({graph.type(node.inputs[0]).dims.empty() ? Dim(1) : graph.type(node.inputs[0]).dims.back()});
  return 1.0;
}

bool moves_only(const std::string& op) {
  for (const char* name : {"reshape", "transpose", "slice", "broadcast", "concat", "pad", "gather", "where", "max", "min", "neg", "abs", "max_pool"})
    if (op == name) return true;
  return false;
}

/// ε² of one rounding to the dtype; 0 for wide ones.
double square_of(DType dtype) {
  return dtype == DType::bf16 ? 0x1p-14 : dtype == DType::f16 ? 0x1p-20 : 0;
}

std::vector<double> half_squares(const Graph& graph) {
  constexpr double usual_rounds = 64;  // of a loop
  std::vector<double> squares(graph.values.size(), 0.0);
  for (const Node& node : graph.nodes) {
    double before = 0, own = 0;
    for (const ValueId id : node.inputs) {
      if (id == no_value) continue;
      before = std::max(before, squares[static_cast<size_t>(id)]);
      if (graph.value(id).constant) own = std::max(own, square_of(graph.type(id).dtype));
    }
    const bool widens = node.op == "cast" && square_of(graph.type(node.inputs[0]).dtype) > 0;
    if (!node.outputs.empty() && !moves_only(node.op) && !widens) own += square_of(graph.type(node.outputs[0]).dtype);
    double inside = 0;
    for (const auto& body : node.subgraphs)
      for (const double error : half_squares(*body)) inside = std::max(inside, error);
    for (const ValueId id : node.outputs) squares[static_cast<size_t>(id)] = before + own + inside * (node.op == "loop" ? usual_rounds : 1.0);
  }
  return squares;
}

}  // namespace

std::vector<double> half_errors(const Graph& graph) {
  std::vector<double> errors = half_squares(graph);
  for (double& error : errors) error = std::sqrt(error);
  return errors;
}

double rounding_steps(const Graph& graph) {
  std::vector<double> steps(graph.values.size(), 0.0);
  double longest = 1.0;
  for (const Node& node : graph.nodes) {
    double most = 0.0;
    for (const ValueId id : node.inputs)
      if (id != no_value) most = std::max(most, steps[static_cast<size_t>(id)]);
    double own = node.outputs.empty() || moves_only(node.op) || !is_float(graph.type(node.outputs[0]).dtype) ? 0.0 : std::sqrt(terms_of(graph, node));
    for (const auto& body : node.subgraphs) own = std::max(own, rounding_steps(*body) * (node.op == "loop" ? 8.0 : 1.0));  // √64 rounds of a loop
    for (const ValueId id : node.outputs) longest = std::max(longest, steps[static_cast<size_t>(id)] = most + own);
  }
  return longest;
}

}  // namespace tilewright
