#include "rounding.h"

#include <algorithm>
#include <cmath>

#include "artifact/compare.h"

namespace tilewright::emulated {
namespace {

using namespace pattern;

double of_nodes(const std::vector<ExprNode>& nodes) {
  double error = 0;
  for (const ExprNode& node : nodes)
    if (!node.args.empty()) error += epsilon_of(node.dtype) * (node.dtype == DType::f32 || node.dtype == DType::f64 ? 3 : 1);
  return error;
}

/// What a pattern adds to the errors of what it reads.
struct OwnError {
  const Program& program;
  const std::map<std::string, int64_t>& sizes;

  double terms(const Dims& dims) const { return std::max(1.0, static_cast<double>(product(dims).evaluate(sizes))); }
  const Type& type(TensorId id) const { return program.tensor(id).type; }

  double operator()(const Nest& nest) const {
    double error = of_nodes(nest.nodes);
    const Dims reduced(nest.space.end() - nest.reduced_rank, nest.space.end());
    for (const Reduction& reduction : nest.reductions)
      if (reduction.op == ReduceOp::sum || reduction.op == ReduceOp::product) error += epsilon_of(reduction.dtype) * std::sqrt(terms(reduced));
    return error;
  }
  double operator()(const Scatter& scatter) const {
    const bool rounds = scatter.combine == Scatter::Combine::add || scatter.combine == Scatter::Combine::mul;
    return of_nodes(scatter.nodes) + (rounds ? epsilon_of(type(scatter.output).dtype) * std::sqrt(terms(scatter.space)) : 0);
  }
  double operator()(const Cumulate& cumulate) const {
    return epsilon_of(type(cumulate.output).dtype) * std::sqrt(terms({type(cumulate.input).dims[static_cast<size_t>(cumulate.axis)]}));
  }
  double operator()(const auto&) const { return 0; }
};

}  // namespace

std::vector<double> rounding_errors(const Program& program, const std::map<std::string, int64_t>& sizes) {
  std::vector<double> errors(program.tensors.size(), 0.0);
  for (const Pattern& pattern : program.patterns) {
    double read = 0;
    for (const TensorId id : reads(pattern)) read = std::max(read, errors[static_cast<size_t>(id)]);
    const double error = read + std::visit(OwnError{program, sizes}, pattern);
    for (const TensorId id : writes(pattern))
      if (is_float(program.tensor(id).type.dtype)) errors[static_cast<size_t>(id)] = std::max(errors[static_cast<size_t>(id)], error);
  }
  std::vector<double> result;
  for (const TensorId id : program.outputs) result.push_back(errors[static_cast<size_t>(id)]);
  return result;
}

}  // namespace tilewright::emulated
