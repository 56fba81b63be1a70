#include "import/onnx/operators.h"
#include "import/onnx/quantization.h"

namespace tilewright::onnx {
namespace {

/// q = saturate(round(x / scale) + zero_point). The quotient is taken in `precision`; by default in the scale's dtype from opset 23 on,
/// in f32 before, where nothing was said.
void quantize_linear(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const int64_t axis = n.integer("axis", 1), block = n.integer("block_size", 0);
  DType to = DType::u8;
  if (n.has_attribute("output_dtype") && n.integer("output_dtype") != 0)
    to = n.dtype_attribute("output_dtype");
  else if (n.has(2))
    to = n.dtype(2);
  n.require(!n.has(2) || n.dtype(2) == to, "output_dtype is {} but the zero point is {}", name(to), n.has(2) ? name(n.dtype(2)) : "");
  DType precision = n.opset() < 23 ? DType::f32 : n.dtype(1);
  if (n.has_attribute("precision") && n.integer("precision") != 0) precision = n.dtype_attribute("precision");
  n.require(is_float(precision), "the quotient's precision is {}; needs a float", name(precision));
  const ValueId scale = b.cast(lay_parameter(n, n.in(1), x, axis, block), precision);
  const ValueId zero_point = lay_parameter(n, n.in_or(2), x, axis, block);
  n.set(quantize(b, b.div(b.cast(x, precision), scale), zero_point, to, n.flag("saturate", true)));
}

/// x = (q - zero_point)·scale, in f32, then of the scale's dtype or `output_dtype`.
void dequantize_linear(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const int64_t axis = n.integer("axis", 1), block = n.integer("block_size", 0);
  DType to = n.dtype(1);
  if (n.has_attribute("output_dtype") && n.integer("output_dtype") != 0) to = n.dtype_attribute("output_dtype");
  const ValueId scale = lay_parameter(n, n.in(1), x, axis, block);
  const ValueId zero_point = lay_parameter(n, n.in_or(2), x, axis, block);
  n.set(b.cast(dequantize(b, x, scale, zero_point), to));
}

/// u8 over the range of x widened to hold 0: scale = (max - min)/255, zero_point = round(-min/scale).
void dynamic_quantize_linear(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  std::vector<int64_t> axes;
  for (int a = 0; a < b.rank(x); ++a) axes.push_back(a);
  const ValueId low = b.min(b.reduce("reduce_min", x, axes, false), 0.0), high = b.max(b.reduce("reduce_max", x, axes, false), 0.0);
  const ValueId zero = b.scalar(b.dtype(x), 0);
  const ValueId range = b.sub(high, low);
  // All zeros have no range: any scale represents them.
  const ValueId scale = b.where(b.equal(range, zero), b.scalar(b.dtype(x), 1), b.div(range, b.scalar(b.dtype(x), 255)));
  const ValueId zero_point = b.cast(b.unary("round", b.min(b.max(b.div(b.sub(zero, low), scale), 0.0), 255.0)), DType::u8);
  n.set(0, quantize(b, b.div(x, scale), zero_point, DType::u8));
  if (n.wants(1)) n.set(1, scale);
  if (n.wants(2)) n.set(2, zero_point);
}

/// A parameter of a matrix's rows: one element a row when it is a vector, as it stands otherwise.
ValueId of_rows(Builder& b, ValueId v) {
  if (v == no_value || b.rank(v) != 1) return v;
  return b.dims(v)[0] == Dim(1) ? b.reshape(v, {}) : b.unsqueeze(v, {1});
}

ValueId of_columns(Builder& b, ValueId v) { return v != no_value && b.rank(v) == 1 && b.dims(v)[0] == Dim(1) ? b.reshape(v, {}) : v; }

ValueId integer_product(Builder& b, ValueId a, ValueId a_zero, ValueId w, ValueId w_zero) {
  if (b.rank(a) == 1)
    a_zero = of_columns(b, a_zero);  // a row alone
  else
    a_zero = of_rows(b, a_zero);
  return b.one("matmul", {without_zero_point(b, a, a_zero), without_zero_point(b, w, of_columns(b, w_zero))}, {{"dtype", DType::i32}});
}

void matmul_integer(NodeImport& n) { n.set(integer_product(n.b, n.in(0), n.in_or(2), n.in(1), n.in_or(3))); }

/// Inputs: a, its scale and zero point, b, its scale and zero point, the output's scale and zero point.
void qlinear_matmul(NodeImport& n) {
  Builder& b = n.b;
  const ValueId product = integer_product(b, n.in(0), n.in(2), n.in(3), n.in(5));
  auto scale = [&](ValueId v) { return b.cast(v, DType::f32); };
  const ValueId multiplier = b.div(b.mul(scale(of_rows(b, n.in(1))), scale(of_columns(b, n.in(4)))), scale(of_rows(b, n.in(6))));
  n.set(requantize(b, product, multiplier, of_rows(b, n.in(7)), n.dtype(7)));
}

constexpr OperatorEntry entries[] = {
    {"", "DequantizeLinear", 10, dequantize_linear},
    {"com.microsoft", "DequantizeLinear", 1, dequantize_linear},
    {"", "DynamicQuantizeLinear", 11, dynamic_quantize_linear},
    {"", "MatMulInteger", 10, matmul_integer},
    {"", "QLinearMatMul", 10, qlinear_matmul},
    {"", "QuantizeLinear", 10, quantize_linear},
    {"com.microsoft", "QuantizeLinear", 1, quantize_linear},
};

}  // namespace

std::span<const OperatorEntry> quantize_operators() { return entries; }

}  // namespace tilewright::onnx
