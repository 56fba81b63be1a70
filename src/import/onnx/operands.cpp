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

std::optional<std::vector<int64_t>> integers_if_known(NodeImport& n, int i) {
  if (const auto constant = n.constant(i)) return constant->ints();
  if (product(n.dims(i)) == Dim(0)) return std::vector<int64_t>{};
  const std::optional<Dims> contents = n.b.contents(n.in(i));
  if (!contents) return std::nullopt;
  std::vector<int64_t> values;
  for (const Dim& value : *contents) {
    if (!value.is_constant()) return std::nullopt;
    values.push_back(value.constant());
  }
  return values;
}

std::vector<int64_t> known_integers(NodeImport& n, int i, std::string_view what) {
  const auto values = integers_if_known(n, i);
  if (!values) n.must_be_known(i, what);
  return *values;
}

Axes axes_of(NodeImport& n, int i, int at_most) {
  if (n.has_attribute("axes")) return {true, n.integers("axes"), no_value};
  return axes_of_input(n, i, at_most);
}

Axes axes_of_input(NodeImport& n, int i, int at_most) {
  if (!n.has(i)) return {};
  if (const auto known = integers_if_known(n, i)) return {true, *known, no_value};
  const Dims dims = n.dims(i);
  n.require(dims.size() <= 1, "its axes must be a list, not {}", str(n.b.type(n.in(i))));
  if (!product(dims).is_constant()) n.unsupported("the number of its axes must be known at compile time; give --shape or --size");
  n.require(product(dims).constant() <= at_most, "{} axes are named; there are {}", product(dims).constant(), at_most);
  return {true, {}, n.b.reshape(as_i64(n.b, n.in(i)), {product(dims)})};
}

ValueId as_i64(Builder& b, ValueId x) { return b.cast(x, DType::i64); }

Dim not_negative(const Dim& size) { return proven_nonnegative(size, {}) ? size : max(size, 0); }

Dim divide_up(const Dim& size, int64_t step) { return step == 1 ? size : (size + (step - 1)) / step; }

ValueId keep_first(Builder& b, ValueId padded, int axis, const Dim& count) { return b.slice(padded, axis, 0, count); }

ValueId flat(Builder& b, ValueId x) { return b.rank(x) == 1 ? x : b.reshape(x, {product(b.dims(x))}); }

}  // namespace tilewright::onnx
