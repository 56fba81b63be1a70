#include "import/onnx/operands.h"

namespace tilewright::onnx {
ValueId aligned_operand(NodeImport& n, ValueId a, ValueId b) {
  if (n.opset() >= 7 || !n.flag("broadcast", false) || !n.has_attribute("axis")) return b;
  const int axis = n.axis(n.integer("axis"), n.b.rank(a));
  const int trailing = n.b.rank(a) - axis - n.b.rank(b);
  n.require(trailing >= 0, "second operand {} does not fit into the first {} at axis {}", str(n.b.type(b)), str(n.b.type(a)), axis);
  Dims dims = n.b.dims(b);
  dims.insert(dims.end(), static_cast<size_t>(trailing), Dim(1));
  return trailing == 0 ? b : n.b.reshape(b, dims);
}

std::vector<int64_t> known_integers(NodeImport& n, int i, std::string_view what) {
  std::vector<int64_t> values;
  if (const auto constant = n.constant(i)) return constant->ints();
  const std::optional<Dims> contents = n.b.contents(n.in(i));
  if (!contents) n.unsupported("its {} (input {}) must be known at compile time", what, i);
  for (const Dim& value : *contents) {
    if (!value.is_constant()) n.unsupported("its {} (input {}) must be known at compile time, not {}", what, i, str(*contents));
    values.push_back(value.constant());
  }
  return values;
}

std::optional<std::vector<int64_t>> axes_of(NodeImport& n, int i) {
  if (n.has_attribute("axes")) return n.integers("axes");
  if (n.has(i)) return known_integers(n, i, "axes");
  return std::nullopt;
}

ValueId as_i64(Builder& b, ValueId x) { return b.cast(x, DType::i64); }

Dim not_negative(const Dim& size) { return proven_nonnegative(size, {}) ? size : max(size, 0); }

Dim divide_up(const Dim& size, int64_t step) { return step == 1 ? size : (size + (step - 1)) / step; }

ValueId keep_first(Builder& b, ValueId padded, int axis, const Dim& count) { return b.slice(padded, axis, 0, count); }

ValueId flat(Builder& b, ValueId x) { return b.rank(x) == 1 ? x : b.reshape(x, {product(b.dims(x))}); }

}  // namespace tilewright::onnx
