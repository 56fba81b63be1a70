#include <cmath>
#include <numbers>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

ValueId zero_like(Builder& b, ValueId x) { return b.scalar(b.dtype(x), 0); }

/// x < 0 ? negative : positive
ValueId by_sign(Builder& b, ValueId x, ValueId negative, ValueId positive) { return b.where(b.less(x, zero_like(b, x)), negative, positive); }

/// alpha·(eˣ − 1)
ValueId scaled_exp_minus_one(Builder& b, ValueId x, double alpha) { return b.mul(b.add(b.exp(x), -1.0), alpha); }

/// log(1 + eˣ), written so that eˣ does not overflow
ValueId softplus_of(Builder& b, ValueId x) { return b.add(b.max(x, 0.0), b.log(b.add(b.exp(b.neg(b.unary("abs", x))), 1.0))); }

/// max(0, min(1, alpha·x + beta))
ValueId hard_sigmoid_of(Builder& b, ValueId x, double alpha, double beta) { return b.max(b.min(b.add(b.mul(x, alpha), beta), 1.0), 0.0); }

void relu(NodeImport& n) { n.set(n.b.max(n.in(0), 0.0)); }
void sigmoid(NodeImport& n) { n.set(n.b.sigmoid(n.in(0))); }
void tanh(NodeImport& n) { n.set(n.b.tanh(n.in(0))); }
void softplus(NodeImport& n) { n.set(softplus_of(n.b, n.in(0))); }

void softsign(NodeImport& n) {
  const ValueId x = n.in(0);
  n.set(n.b.div(x, n.b.add(n.b.unary("abs", x), 1.0)));
}

void leaky_relu(NodeImport& n) {
  const ValueId x = n.in(0);
  n.set(by_sign(n.b, x, n.b.mul(x, n.real("alpha", 0.01)), x));
}

void prelu(NodeImport& n) {
  const ValueId x = n.in(0);
  ValueId slope = n.in(1);
  // Before opset 7 a slope of one dim is the channels'.
  if (n.opset() < 7 && n.b.rank(slope) == 1 && n.b.rank(x) > 2) {
    Dims dims(static_cast<size_t>(n.b.rank(x) - 1), Dim(1));
    dims[0] = n.b.dims(slope)[0];
    slope = n.b.reshape(slope, dims);
  }
  n.set(by_sign(n.b, x, n.b.mul(x, slope), x));
}

void elu(NodeImport& n) {
  const ValueId x = n.in(0);
  n.set(by_sign(n.b, x, scaled_exp_minus_one(n.b, x, n.real("alpha", 1.0)), x));
}

void selu(NodeImport& n) {
  const ValueId x = n.in(0);
  const bool early = n.opset() < 6;
  const double alpha = n.real("alpha", early ? 1.6732 : 1.67326319217681884765625);
  const double gamma = n.real("gamma", early ? 1.0507 : 1.05070102214813232421875);
  n.set(n.b.mul(by_sign(n.b, x, scaled_exp_minus_one(n.b, x, alpha), x), gamma));
}

void celu(NodeImport& n) {
  const ValueId x = n.in(0);
  const double alpha = n.real("alpha", 1.0);
  const ValueId divided = n.b.div(x, n.b.scalar(n.b.dtype(x), alpha));
  n.set(by_sign(n.b, x, scaled_exp_minus_one(n.b, divided, alpha), x));
}

void thresholded_relu(NodeImport& n) {
  const ValueId x = n.in(0);
  const ValueId threshold = n.b.scalar(n.b.dtype(x), n.real("alpha", 1.0));
  n.set(n.b.where(n.b.less(threshold, x), x, zero_like(n.b, x)));
}

void hard_sigmoid(NodeImport& n) { n.set(hard_sigmoid_of(n.b, n.in(0), n.real("alpha", 0.2), n.real("beta", 0.5))); }

void hard_swish(NodeImport& n) {
  const ValueId x = n.in(0);
  n.set(n.b.mul(x, hard_sigmoid_of(n.b, x, 1.0 / 6.0, 0.5)));
}

void mish(NodeImport& n) {
  const ValueId x = n.in(0);
  n.set(n.b.mul(x, n.b.tanh(softplus_of(n.b, x))));
}

void swish(NodeImport& n) {
  const ValueId x = n.in(0);
  const double alpha = n.real("alpha", 1.0);
  n.set(n.b.mul(x, n.b.sigmoid(alpha == 1.0 ? x : n.b.mul(x, alpha))));
}

void gelu(NodeImport& n) {
  const ValueId x = n.in(0);
  const std::string approximate = n.text("approximate", "none");
  n.require(approximate == "none" || approximate == "tanh", "approximate is '{}', neither none nor tanh", approximate);
  ValueId gate = no_value;
  if (approximate == "tanh") {
    const ValueId cubed = n.b.mul(n.b.mul(x, x), x);
    gate = n.b.tanh(n.b.mul(n.b.add(x, n.b.mul(cubed, 0.044715)), std::sqrt(2.0 / std::numbers::pi)));
  } else {
    gate = n.b.unary("erf", n.b.mul(x, 1.0 / std::numbers::sqrt2));
  }
  n.set(n.b.mul(n.b.mul(x, 0.5), n.b.add(gate, 1.0)));
}

void shrink(NodeImport& n) {
  const ValueId x = n.in(0);
  const DType dtype = n.b.dtype(x);
  const double bias = n.real("bias", 0.0);
  const double limit = n.real("lambd", 0.5);
  const ValueId above = n.b.where(n.b.less(n.b.scalar(dtype, limit), x), n.b.add(x, -bias), zero_like(n.b, x));
  n.set(n.b.where(n.b.less(x, n.b.scalar(dtype, -limit)), n.b.add(x, bias), above));
}

void scaled_tanh(NodeImport& n) { n.set(n.b.mul(n.b.tanh(n.b.mul(n.in(0), n.real("beta", 1.0))), n.real("alpha", 1.0))); }

/// Before opset 13 the softmax family works on x seen as a matrix that is split at `axis`; later along `axis` alone.
void along_rows(NodeImport& n, ValueId (*compute)(Builder&, ValueId x, int axis)) {
  const ValueId x = n.in(0);
  const int rank = n.b.rank(x);
  if (n.opset() >= 13) {
    n.set(rank == 0 ? compute(n.b, n.b.reshape(x, {1}), 0) : compute(n.b, x, n.axis(n.integer("axis", -1), rank)));
    if (rank == 0) n.set(n.b.reshape(n.results()[0].tensor, {}));
    return;
  }
  const int64_t stated = n.integer("axis", 1);
  const int axis = stated == rank ? rank : n.axis(stated, rank);
  if (axis == rank - 1) return n.set(compute(n.b, x, axis));
  const Dims dims = n.b.dims(x);
  const ValueId matrix = n.b.reshape(x, {product({dims.begin(), dims.begin() + axis}), product({dims.begin() + axis, dims.end()})});
  n.set(n.b.reshape(compute(n.b, matrix, 1), dims));
}

ValueId log_softmax_of(Builder& b, ValueId x, int axis) {
  const ValueId shifted = b.sub(x, b.reduce("reduce_max", x, {axis}));
  return b.sub(shifted, b.log(b.reduce("reduce_sum", b.exp(shifted), {axis})));
}

ValueId hardmax_of(Builder& b, ValueId x, int axis) {
  const ValueId largest = b.one("arg_max", {x}, {{"axis", int64_t{axis}}, {"keep_dims", int64_t{1}}, {"last", int64_t{0}}});
  Dims line(static_cast<size_t>(b.rank(x)), Dim(1));
  line[static_cast<size_t>(axis)] = b.dims(x)[static_cast<size_t>(axis)];
  return b.cast(b.equal(b.iota(DType::i64, line, axis), largest), b.dtype(x));
}

void softmax(NodeImport& n) {
  along_rows(n, [](Builder& b, ValueId x, int axis) { return b.softmax(x, axis); });
}
void log_softmax(NodeImport& n) { along_rows(n, log_softmax_of); }
void hardmax(NodeImport& n) { along_rows(n, hardmax_of); }

constexpr OperatorEntry table[] = {
    {"", "Celu", 12, celu},
    {"", "Elu", 1, elu},
    {"", "Gelu", 20, gelu},
    {"", "HardSigmoid", 1, hard_sigmoid},
    {"", "HardSwish", 14, hard_swish},
    {"", "Hardmax", 1, hardmax},
    {"", "LeakyRelu", 1, leaky_relu},
    {"", "LogSoftmax", 1, log_softmax},
    {"", "Mish", 18, mish},
    {"", "PRelu", 1, prelu},
    {"", "Relu", 1, relu},
    {"", "ScaledTanh", 1, scaled_tanh},
    {"", "Selu", 1, selu},
    {"", "Shrink", 9, shrink},
    {"", "Sigmoid", 1, sigmoid},
    {"", "Softmax", 1, softmax},
    {"", "Softplus", 1, softplus},
    {"", "Softsign", 1, softsign},
    {"", "Swish", 24, swish},
    {"", "Tanh", 1, tanh},
    {"", "ThresholdedRelu", 1, thresholded_relu},
};

}  // namespace

std::span<const OperatorEntry> activation_operators() { return table; }

}  // namespace tilewright::onnx
