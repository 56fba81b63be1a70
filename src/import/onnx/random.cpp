#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

void refuse(NodeImport& n) { n.unsupported("its result is random; a compiled model computes the same from the same inputs"); }

/// At inference the identity, with a mask that keeps everything.
void dropout(NodeImport& n) {
  const ValueId x = n.in(0);
  if (n.opset() >= 12 && n.has(2)) {
    const Tensor training = n.required_constant(2, "training_mode");
    const bool drops = training.element_count() == 1 && training.int_at(0) != 0;
    const double ratio = n.has(1) ? n.required_constant(1, "ratio").float_at(0) : 0.5;
    if (drops && ratio != 0) refuse(n);
  }
  n.set(0, x);
  if (n.wants(1)) n.set(1, n.b.broadcast(n.b.scalar(n.opset() >= 10 ? DType::boolean : n.b.dtype(x), 1), n.b.dims(x)));
}

constexpr OperatorEntry table[] = {
    {"", "Bernoulli", 15, refuse},       {"", "Dropout", 1, dropout},      {"", "Multinomial", 7, refuse},       {"", "RandomNormal", 1, refuse},
    {"", "RandomNormalLike", 1, refuse}, {"", "RandomUniform", 1, refuse}, {"", "RandomUniformLike", 1, refuse},
};

}  // namespace

std::span<const OperatorEntry> random_operators() { return table; }

}  // namespace tilewright::onnx
