#include "import/onnx/operators.h"

/// The optimisers of ai.onnx.preview.training: inputs are the learning rate R, the update count T, then all tensors, all gradients and all
/// states of each kind; outputs are the new tensors and states in the same order.
namespace tilewright::onnx {
namespace {

/// One optimised tensor: [x, gradient, states…] → [new x, new states…].
using Update = std::vector<ValueId> (*)(NodeImport&, ValueId rate, ValueId count, const std::vector<ValueId>&);

ValueId scalar_as(NodeImport& n, int i, DType dtype) {
  n.require(n.rank(i) == 0 || n.dims(i) == Dims{1}, "input {} is {}; needs a scalar", i, str(n.b.type(n.in(i))));
  return n.b.cast(n.b.reshape(n.in(i), {}), dtype);
}

void update_all(NodeImport& n, int kinds, Update update) {
  const int each = (n.input_count() - 2) / kinds;
  n.require(n.input_count() >= 2 + kinds && n.input_count() == 2 + each * kinds, "{} inputs; needs R, T and {} for each tensor", n.input_count(), kinds);
  for (int i = 0; i < each; ++i) {
    std::vector<ValueId> operands;
    for (int k = 0; k < kinds; ++k) operands.push_back(n.in(2 + k * each + i));
    const DType dtype = n.b.dtype(operands[0]);
    const std::vector<ValueId> results = update(n, scalar_as(n, 0, dtype), scalar_as(n, 1, dtype), operands);
    for (size_t k = 0; k < results.size(); ++k) n.set(static_cast<int>(k) * each + i, results[k]);
  }
}

/// The gradient with the regularisation term's.
ValueId regularised(NodeImport& n, ValueId x, ValueId gradient, double otherwise) {
  return n.b.add(n.b.mul(x, n.real("norm_coefficient", otherwise)), gradient);
}

/// h' = h + g²; x' = x - rate/(1 + count·decay)·g / (√h' + epsilon)
std::vector<ValueId> adagrad_step(NodeImport& n, ValueId rate, ValueId count, const std::vector<ValueId>& in) {
  Builder& b = n.b;
  const ValueId adjusted = b.div(rate, b.add(b.mul(count, n.real("decay_factor", 0)), 1.0));
  const ValueId g = regularised(n, in[0], in[1], 0);
  const ValueId h = b.add(in[2], b.mul(g, g));
  return {b.sub(in[0], b.div(b.mul(adjusted, g), b.add(b.sqrt(h), n.real("epsilon", 1e-6)))), h};
}

/// v' = alpha·v + (1 - alpha)·g; h' = beta·h + (1 - beta)·g²; x' = x - rate'·v'/(√h' + epsilon), the rate corrected for the bias of
/// the first steps.
std::vector<ValueId> adam_step(NodeImport& n, ValueId rate, ValueId count, const std::vector<ValueId>& in) {
  Builder& b = n.b;
  const DType t = b.dtype(in[0]);
  const double alpha = n.real("alpha", 0.9), beta = n.real("beta", 0.999);
  const ValueId one = b.scalar(t, 1);
  const ValueId g = regularised(n, in[0], in[1], 0);
  const ValueId v = b.add(b.mul(in[2], alpha), b.mul(g, 1 - alpha));
  const ValueId h = b.add(b.mul(in[3], beta), b.mul(b.mul(g, g), 1 - beta));
  const ValueId corrected = b.div(b.mul(rate, b.sqrt(b.sub(one, b.pow(b.scalar(t, beta), count)))), b.sub(one, b.pow(b.scalar(t, alpha), count)));
  const ValueId adjusted = b.where(b.less(b.scalar(t, 0), count), corrected, rate);
  const ValueId x = b.sub(in[0], b.mul(adjusted, b.div(v, b.add(b.sqrt(h), n.real("epsilon", 1e-6)))));
  return {b.mul(x, 1 - n.real("norm_coefficient_post", 0)), v, h};
}

/// v' = alpha·v + beta'·g with beta' = 1 at the first step; x' = x - rate·v', or Nesterov's x - rate·(g + alpha·v').
std::vector<ValueId> momentum_step(NodeImport& n, ValueId rate, ValueId count, const std::vector<ValueId>& in) {
  Builder& b = n.b;
  const DType t = b.dtype(in[0]);
  const std::string mode = n.text("mode");
  n.require(mode == "standard" || mode == "nesterov", "mode is '{}'; needs standard or nesterov", mode);
  const double alpha = n.real("alpha");
  const ValueId g = regularised(n, in[0], in[1], 0);
  const ValueId beta = b.where(b.less(b.scalar(t, 0), count), b.scalar(t, n.real("beta")), b.scalar(t, 1));
  const ValueId v = b.add(b.mul(in[2], alpha), b.mul(beta, g));
  const ValueId step = mode == "standard" ? v : b.add(g, b.mul(v, alpha));
  return {b.sub(in[0], b.mul(rate, step)), v};
}

void adagrad(NodeImport& n) { update_all(n, 3, adagrad_step); }
void adam(NodeImport& n) { update_all(n, 4, adam_step); }
void momentum(NodeImport& n) { update_all(n, 3, momentum_step); }

void gradient(NodeImport& n) { n.unsupported("differentiation of a graph is not done here; export the gradient's own graph"); }

constexpr OperatorEntry entries[] = {
    {"ai.onnx.preview.training", "Adagrad", 1, adagrad},
    {"ai.onnx.preview.training", "Adam", 1, adam},
    {"ai.onnx.preview.training", "Gradient", 1, gradient},
    {"ai.onnx.preview.training", "Momentum", 1, momentum},
};

}  // namespace

std::span<const OperatorEntry> training_operators() { return entries; }

}  // namespace tilewright::onnx
