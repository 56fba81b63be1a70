#include "import/onnx/convolution.h"
#include "import/onnx/operators.h"
#include "import/onnx/quantization.h"
#include "import/onnx/window.h"

/// Operators whose tensors are quantized and whose scales and zero points are inputs: integer sums, or real arithmetic between a
/// dequantization and a quantization.
namespace tilewright::onnx {
namespace {

/// A parameter of the weights' output channels: a vector laid along axis `at` of `rank` axes.
ValueId of_channels(Builder& b, ValueId v, int rank, int at) {
  if (v == no_value || b.rank(v) == 0) return v;
  if (b.rank(v) == 1 && b.dims(v)[0] == Dim(1)) return b.reshape(v, {});
  Dims dims(static_cast<size_t>(rank), Dim(1));
  dims[static_cast<size_t>(at)] = product(b.dims(v));
  return b.reshape(v, dims);
}

/// conv(x - x_zero, w - w_zero) in i32.
ValueId integer_convolution(NodeImport& n, ValueId x, ValueId x_zero, ValueId w, ValueId w_zero, ValueId bias) {
  Builder& b = n.b;
  n.require(b.rank(x) >= 2 && b.rank(w) >= 2, "x is {} and w is {}; needs [n,c,spatial…] and [m,c,spatial…]", str(b.type(x)), str(b.type(w)));
  return convolve(n, without_zero_point(b, x, of_channels(b, x_zero, b.rank(x), 1)), without_zero_point(b, w, of_channels(b, w_zero, b.rank(w), 0)), bias,
                  DType::i32);
}

void conv_integer(NodeImport& n) { n.set(integer_convolution(n, n.in(0), n.in_or(2), n.in(1), n.in_or(3), no_value)); }

/// Inputs: x, its scale and zero point, w, its scale and zero point, the output's scale and zero point, the i32 bias.
void qlinear_conv(NodeImport& n) {
  Builder& b = n.b;
  const int rank = n.rank(0);
  const ValueId sum = integer_convolution(n, n.in(0), n.in(2), n.in(3), n.in(5), n.in_or(8));
  auto scale = [&](int i) { return b.cast(of_channels(b, n.in(i), rank, 1), DType::f32); };
  n.set(requantize(b, sum, b.div(b.mul(scale(1), scale(4)), scale(6)), of_channels(b, n.in(7), rank, 1), n.dtype(7)));
}

ValueId real_input(NodeImport& n, int first) {
  return dequantize(n.b, n.in(first), n.b.reshape(n.in(first + 1), {}), n.has(first + 2) ? n.b.reshape(n.in(first + 2), {}) : no_value);
}

/// Quantizes y with the scale at input `scale` and the zero point after it.
void set_quantized(NodeImport& n, ValueId y, int scale, DType otherwise) {
  Builder& b = n.b;
  const bool has_zero_point = n.has(scale + 1);
  n.set(quantize(b, b.div(y, b.cast(b.reshape(n.in(scale), {}), DType::f32)), has_zero_point ? b.reshape(n.in(scale + 1), {}) : no_value,
                 has_zero_point ? n.dtype(scale + 1) : otherwise));
}

void qlinear_add(NodeImport& n) { set_quantized(n, n.b.add(real_input(n, 0), real_input(n, 3)), 6, n.dtype(0)); }
void qlinear_mul(NodeImport& n) { set_quantized(n, n.b.mul(real_input(n, 0), real_input(n, 3)), 6, n.dtype(0)); }
void qlinear_sigmoid(NodeImport& n) { set_quantized(n, n.b.sigmoid(real_input(n, 0)), 3, n.dtype(0)); }

void qlinear_leaky_relu(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = real_input(n, 0);
  set_quantized(n, b.where(b.less(x, b.scalar(DType::f32, 0)), b.mul(x, n.real("alpha", 0.01)), x), 3, n.dtype(0));
}

void qlinear_softmax(NodeImport& n) {
  const ValueId x = real_input(n, 0);
  const int rank = n.b.rank(x);
  const int64_t version = n.integer("opset", 13);
  const int axis = n.axis(n.integer("axis", -1), rank);
  if (version < 13 && axis != rank - 1) n.unsupported("softmax over several axes (opset {} semantics)", version);
  set_quantized(n, n.b.softmax(x, axis), 3, n.dtype(0));
}

void qlinear_global_average_pool(NodeImport& n) {
  const ValueId x = real_input(n, 0);
  const bool channels_last = n.flag("channels_last", false);
  std::vector<int64_t> axes;
  for (int a = channels_last ? 1 : 2; a < n.b.rank(x) - (channels_last ? 1 : 0); ++a) axes.push_back(a);
  set_quantized(n, n.b.reduce("reduce_mean", x, axes), 3, n.dtype(0));
}

void qlinear_average_pool(NodeImport& n) {
  Builder& b = n.b;
  if (n.flag("channels_last", false)) n.unsupported("channels_last");
  const ValueId x = real_input(n, 0);
  Window window = window_of(n, spatial_dims(n, x), n.integers("kernel_shape"));
  if (!window.is_known()) n.unsupported("padding that depends on a run-time size");
  set_quantized(n,
                b.one("average_pool", {x},
                      {{"kernel", window.kernel},
                       {"strides", window.strides},
                       {"dilations", window.dilations},
                       {"pads", window.pads()},
                       {"ceil_mode", n.integer("ceil_mode", 0)},
                       {"include_pad", n.integer("count_include_pad", 0)}}),
                3, n.dtype(0));
}

/// Inputs: the output's scale and zero point, then x, its scale and zero point for each part.
void qlinear_concat(NodeImport& n) {
  n.require(n.input_count() >= 5 && (n.input_count() - 2) % 3 == 0, "{} inputs; needs 2 and 3 for each part", n.input_count());
  std::vector<ValueId> parts;
  for (int i = 2; i < n.input_count(); i += 3) parts.push_back(real_input(n, i));
  set_quantized(n, n.b.concat(parts, n.axis(n.integer("axis"), n.b.rank(parts[0]))), 0, n.dtype(2));
}

/// alpha·a·b + c on quantized operands. Inputs: a, its scale and zero point, b, its scale and zero point, c (i32), and the output's
/// scale and zero point; without the latter the result is real.
void q_gemm(NodeImport& n) {
  Builder& b = n.b;
  auto operand = [&](int i, const char* attribute) { return n.flag(attribute, false) ? b.transpose(n.in(i), {1, 0}) : n.in(i); };
  auto columns = [&](int i) { return n.has(i) ? of_channels(b, n.in(i), 2, 1) : no_value; };
  for (int i : {0, 3}) n.require(n.rank(i) == 2, "input {} is {}; needs a matrix", i, str(b.type(n.in(i))));
  ValueId sum = b.one("matmul", {without_zero_point(b, operand(0, "transA"), columns(2)), without_zero_point(b, operand(3, "transB"), columns(5))},
                      {{"dtype", DType::i32}});
  if (n.has(6)) sum = b.add(sum, n.in(6));
  ValueId scale = b.mul(b.cast(columns(1), DType::f32), b.cast(columns(4), DType::f32));
  if (const double alpha = n.real("alpha", 1); alpha != 1) scale = b.mul(scale, alpha);
  if (!n.has(7)) {
    n.set(b.mul(b.cast(sum, DType::f32), scale));
    return;
  }
  const ValueId multiplier = b.div(scale, b.cast(columns(7), DType::f32));
  n.set(requantize(b, sum, multiplier, columns(8), n.has(8) ? n.dtype(8) : n.dtype(0)));
}

/// Inputs: a, b, their scales, their zero points, a bias; the result is real.
void matmul_integer_to_float(NodeImport& n) {
  Builder& b = n.b;
  auto last = [&](int i) { return n.has(i) ? of_channels(b, n.in(i), 2, 1) : no_value; };
  const ValueId product = b.one("matmul", {without_zero_point(b, n.in(0), last(4)), without_zero_point(b, n.in(1), last(5))}, {{"dtype", DType::i32}});
  ValueId y = b.mul(b.cast(product, DType::f32), b.mul(b.cast(last(2), DType::f32), b.cast(last(3), DType::f32)));
  if (n.has(6)) y = b.add(y, b.cast(n.in(6), DType::f32));
  n.set(b.cast(y, n.dtype(2)));
}

constexpr OperatorEntry entries[] = {
    {"", "ConvInteger", 10, conv_integer},
    {"com.microsoft", "MatMulIntegerToFloat", 1, matmul_integer_to_float},
    {"com.microsoft", "QGemm", 1, q_gemm},
    {"com.microsoft", "QLinearAdd", 1, qlinear_add},
    {"com.microsoft", "QLinearAveragePool", 1, qlinear_average_pool},
    {"com.microsoft", "QLinearConcat", 1, qlinear_concat},
    {"", "QLinearConv", 10, qlinear_conv},
    {"com.microsoft", "QLinearGlobalAveragePool", 1, qlinear_global_average_pool},
    {"com.microsoft", "QLinearLeakyRelu", 1, qlinear_leaky_relu},
    {"com.microsoft", "QLinearMul", 1, qlinear_mul},
    {"com.microsoft", "QLinearSigmoid", 1, qlinear_sigmoid},
    {"com.microsoft", "QLinearSoftmax", 1, qlinear_softmax},
};

}  // namespace

std::span<const OperatorEntry> qlinear_operators() { return entries; }

}  // namespace tilewright::onnx
