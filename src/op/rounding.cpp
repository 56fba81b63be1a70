#include "op/rounding.h"

#include <algorithm>
#include <cmath>
#include <set>

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

bool is_product(const std::string& op) { return op == "matmul" || op == "conv" || op == "conv_transpose" || op == "einsum"; }

/// ε of one rounding to the dtype; 0 for wide ones.
double half_step(DType dtype) { return dtype == DType::bf16 ? 0x1p-7 : dtype == DType::f16 ? 0x1p-10 : 0; }

}  // namespace

bool hides_products(const Graph& graph) {
  std::set<ValueId> products_of_elements;
  for (const Node& node : graph.nodes) {
    if (node.op == "dft" || node.op == "deform_conv") return true;
    if (node.op == "mul" && graph.type(node.inputs[0]).dims != graph.type(node.inputs[1]).dims) products_of_elements.insert(node.outputs[0]);
    if ((node.op == "reduce_sum" || node.op == "reduce_mean") && products_of_elements.count(node.inputs[0]) > 0) return true;
    if (std::any_of(node.subgraphs.begin(), node.subgraphs.end(), [](const auto& body) { return hides_products(*body); })) return true;
  }
  return false;
}

std::vector<HalfError> half_errors(const Graph& graph, double product_step) {
  constexpr double usual_rounds = 64;  // of a loop
  std::vector<HalfError> errors(graph.values.size());
  for (const Node& node : graph.nodes) {
    HalfError before, inside;
    double weights = 0, result = 0;
    for (const ValueId id : node.inputs) {
      if (id == no_value) continue;
      const HalfError& operand = errors[static_cast<size_t>(id)];
      before = {std::max(before.rms, operand.rms), std::max(before.largest, operand.largest)};
      if (graph.value(id).constant) weights = std::max(weights, half_step(graph.type(id).dtype));
    }
    const bool widens = node.op == "cast" && half_step(graph.type(node.inputs[0]).dtype) > 0 &&
                        bits_of(graph.type(node.outputs[0]).dtype) > bits_of(graph.type(node.inputs[0]).dtype);
    if (!node.outputs.empty() && !moves_only(node.op) && !widens) result = half_step(graph.type(node.outputs[0]).dtype);
    for (const auto& body : node.subgraphs)
      for (const HalfError& one : half_errors(*body, product_step)) inside = {std::max(inside.rms, one.rms), std::max(inside.largest, one.largest)};
    if (is_product(node.op)) weights = std::max(weights, product_step), result = std::max(result, product_step);
    const double rounds = node.op == "loop" ? usual_rounds : 1;
    for (const ValueId id : node.outputs)
      errors[static_cast<size_t>(id)] = {std::sqrt(before.rms * before.rms + weights * weights + result * result + rounds * inside.rms * inside.rms),
                                         before.largest + weights + result + rounds * inside.largest};
  }
  return errors;
}

double repeated_error(const HalfError& half, double wide) { return wide + std::sqrt(wide * half.largest); }

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
