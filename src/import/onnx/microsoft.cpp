#include <cmath>
#include <limits>
#include <numbers>

#include "import/onnx/convolution.h"
#include "import/onnx/operators.h"

/// Fused floating-point operators of com.microsoft, as ONNX Runtime's optimiser and exporters write them; taken apart again.
namespace tilewright::onnx {
namespace {

ValueId gelu_exact(Builder& b, ValueId x) { return b.mul(b.mul(x, 0.5), b.add(b.unary("erf", b.mul(x, 1 / std::numbers::sqrt2)), 1.0)); }

/// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
ValueId gelu_tanh(Builder& b, ValueId x) {
  const ValueId cube = b.mul(b.mul(x, x), x);
  const ValueId inner = b.mul(b.add(x, b.mul(cube, 0.044715)), std::sqrt(2 / std::numbers::pi));
  return b.mul(b.mul(x, 0.5), b.add(b.tanh(inner), 1.0));
}

void gelu(NodeImport& n) { n.set(gelu_exact(n.b, n.in(0))); }
void bias_gelu(NodeImport& n) { n.set(gelu_exact(n.b, n.b.add(n.in(0), n.in(1)))); }
void fast_gelu(NodeImport& n) { n.set(gelu_tanh(n.b, n.has(1) ? n.b.add(n.in(0), n.in(1)) : n.in(0))); }
void quick_gelu(NodeImport& n) { n.set(n.b.mul(n.in(0), n.b.sigmoid(n.b.mul(n.in(0), n.real("alpha", 1.702))))); }

/// alpha·op(a)·op(b); transposing the batch moves the batch's first axis next to the inner one.
void fused_matmul(NodeImport& n) {
  Builder& b = n.b;
  if (n.flag("transBatchA", false) || n.flag("transBatchB", false)) n.unsupported("transposed batch axes");
  auto operand = [&](int i, const char* attribute) {
    const ValueId x = n.in(i);
    if (!n.flag(attribute, false) || b.rank(x) < 2) return x;
    std::vector<int64_t> permutation;
    for (int a = 0; a < b.rank(x); ++a) permutation.push_back(a);
    std::swap(permutation[permutation.size() - 1], permutation[permutation.size() - 2]);
    return b.transpose(x, permutation);
  };
  const ValueId product = b.matmul(operand(0, "transA"), operand(1, "transB"));
  const double alpha = n.real("alpha", 1);
  n.set(alpha == 1 ? product : b.mul(product, alpha));
}

/// act(conv(x) + residual); the optional fourth input is the residual.
void fused_conv(NodeImport& n) {
  Builder& b = n.b;
  ValueId y = convolve(n, n.in(0), n.in(1), n.in_or(2));
  if (n.has(3)) y = b.add(y, n.in(3));
  const std::string activation = n.text("activation", "");
  const std::vector<float> parameters = n.reals("activation_params");
  auto parameter = [&](size_t i, double otherwise) { return i < parameters.size() ? static_cast<double>(parameters[i]) : otherwise; };
  if (activation == "Relu")
    y = b.max(y, 0.0);
  else if (activation == "Sigmoid")
    y = b.sigmoid(y);
  else if (activation == "Tanh")
    y = b.tanh(y);
  else if (activation == "LeakyRelu")
    y = b.where(b.less(y, b.scalar(b.dtype(y), 0)), b.mul(y, parameter(0, 0.01)), y);
  else if (activation == "Clip")
    y = b.min(b.max(y, parameter(0, 0)), parameter(1, 0));
  else if (activation == "HardSigmoid")
    y = b.min(b.max(b.add(b.mul(y, parameter(0, 0.2)), parameter(1, 0.5)), 0.0), 1.0);
  else if (!activation.empty())
    n.unsupported("activation '{}'", activation);
  n.set(y);
}

struct Normalized {
  ValueId y, mean, inverse;
};

/// Over the last axis, in f32. Without the mean it is the root mean square's normalization.
Normalized normalize(Builder& b, ValueId x, ValueId scale, ValueId bias, double epsilon, bool subtract_mean) {
  const DType inner = b.dtype(x) == DType::f64 ? DType::f64 : DType::f32;
  const std::vector<int64_t> last{b.rank(x) - 1};
  ValueId centred = b.cast(x, inner);
  Normalized result{};
  if (subtract_mean) {
    result.mean = b.reduce("reduce_mean", centred, last);
    centred = b.sub(centred, result.mean);
  }
  const ValueId variance = b.reduce("reduce_mean", b.mul(centred, centred), last);
  result.inverse = b.div(b.scalar(inner, 1), b.sqrt(b.add(variance, epsilon)));
  ValueId y = b.mul(b.mul(centred, result.inverse), b.cast(scale, inner));
  if (bias != no_value) y = b.add(y, b.cast(bias, inner));
  result.y = b.cast(y, b.dtype(x));
  return result;
}

/// Inputs: x, skip, scale, then the normalization's bias (not for the simplified form) and a bias added to the sum.
void skip_normalization(NodeImport& n, bool simplified) {
  Builder& b = n.b;
  ValueId sum = b.add(n.in(0), n.in(1));
  const int extra = simplified ? 3 : 4;
  if (n.has(extra)) sum = b.add(sum, n.in(extra));
  const Normalized r = normalize(b, sum, n.in(2), simplified ? no_value : n.in_or(3), n.real("epsilon", 1e-12), !simplified);
  n.set(0, r.y);
  if (n.wants(1) && !simplified) n.set(1, r.mean);
  if (n.wants(2)) n.set(2, r.inverse);
  if (n.wants(3)) n.set(3, sum);
}

void skip_layer_normalization(NodeImport& n) { skip_normalization(n, false); }
void skip_simplified_layer_normalization(NodeImport& n) { skip_normalization(n, true); }

/// Inputs: word ids, segment ids, word, position and segment tables, scale, bias, mask, position ids. Outputs: y, mask index (how
/// many words of each row count), the sum before normalization.
void embed_layer_normalization(NodeImport& n) {
  Builder& b = n.b;
  const Dim length = n.dims(0).at(1);
  ValueId sum = b.gather(n.in(2), n.in(0), 0);
  sum = b.add(sum, n.has(8) ? b.gather(n.in(3), n.in(8), 0) : b.slice(n.in(3), 0, 0, length));
  if (n.has(1)) sum = b.add(sum, b.gather(n.in(4), n.in(1), 0));
  n.set(0, normalize(b, sum, n.in(5), n.in(6), n.real("epsilon", 1e-12), true).y);
  if (n.wants(1)) {
    n.set(1, n.has(7) ? b.reduce("reduce_sum", n.in(7), {1}, false) : b.broadcast(b.scalar(DType::i32, 0), {n.dims(0)[0]}));
  }
  if (n.wants(2)) n.set(2, sum);
}

/// The self-attention of BERT: one product gives q, k and v. Inputs: x [batch, length, hidden], weights [hidden, 3·hidden], bias, mask.
void attention(NodeImport& n) {
  Builder& b = n.b;
  for (int i = 4; i < n.input_count(); ++i)
    if (n.has(i)) n.unsupported("its input {} (past state, relative bias or lengths)", i);
  if (n.flag("unidirectional", false) || n.flag("do_rotary", false)) n.unsupported("a causal or rotary form");
  if (n.wants(1)) n.unsupported("its present state");
  const ValueId x = n.in(0);
  const int64_t heads = n.integer("num_heads");
  n.require(b.rank(x) == 3 && b.rank(n.in(1)) == 2 && heads > 0, "x is {}, weights {}, {} heads", str(b.type(x)), str(b.type(n.in(1))), heads);
  ValueId projected = b.matmul(x, n.in(1));
  if (n.has(2)) projected = b.add(projected, n.in(2));
  std::vector<int64_t> widths = n.integers("qkv_hidden_sizes");
  const Dim batch = b.dims(x)[0], length = b.dims(x)[1], third = b.dims(projected)[2] / Dim(3);
  auto part = [&](const Dim& from, const Dim& width) {
    return b.transpose(b.reshape(b.slice(projected, 2, from, width), {batch, length, heads, width / Dim(heads)}), {0, 2, 1, 3});
  };
  const Dim qk = widths.size() == 3 ? Dim(widths[0]) : third, hidden = widths.size() == 3 ? Dim(widths[2]) : third;
  const ValueId q = part(0, qk), k = part(qk, qk), v = part(qk * Dim(2), hidden);
  double scale = n.real("scale", 0);
  const auto head_size = (qk / Dim(heads)).as_constant();
  if (scale == 0 && !head_size) n.unsupported("the size of a head must be known");
  if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(*head_size));
  ValueId scores = b.mul(b.matmul(q, b.transpose(k, {0, 1, 3, 2})), scale);
  if (n.has(3)) {
    ValueId mask = n.in(3);  // 1 where a key counts
    const double masked = n.real("mask_filter_value", -10000);
    if (b.rank(mask) == 1 && b.dims(mask)[0] == batch) {  // the number of keys that count, a row
      mask = b.less(b.iota(DType::i64, {1, length}, 1), b.unsqueeze(b.cast(mask, DType::i64), {1}));
    } else if (b.rank(mask) < 2 || b.rank(mask) > 3) {
      n.unsupported("a mask {}", str(b.type(mask)));
    }
    const ValueId counts = b.cast(mask, DType::boolean);
    const ValueId bias = b.where(counts, b.scalar(b.dtype(x), 0), b.scalar(b.dtype(x), masked));
    scores = b.add(scores, b.unsqueeze(bias, b.rank(mask) == 2 ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{1}));
  }
  const ValueId y = b.matmul(b.softmax(scores, 3), v);
  n.set(0, b.flatten_to(b.transpose(y, {0, 2, 1, 3}), 2, 4));
}

constexpr OperatorEntry entries[] = {
    {"com.microsoft", "Attention", 1, attention},
    {"com.microsoft", "BiasGelu", 1, bias_gelu},
    {"com.microsoft", "EmbedLayerNormalization", 1, embed_layer_normalization},
    {"com.microsoft", "FastGelu", 1, fast_gelu},
    {"com.microsoft", "FusedConv", 1, fused_conv},
    {"com.microsoft", "FusedMatMul", 1, fused_matmul},
    {"com.microsoft", "Gelu", 1, gelu},
    {"com.microsoft", "QuickGelu", 1, quick_gelu},
    {"com.microsoft", "SkipLayerNormalization", 1, skip_layer_normalization},
    {"com.microsoft", "SkipSimplifiedLayerNormalization", 1, skip_simplified_layer_normalization},
};

}  // namespace

std::span<const OperatorEntry> microsoft_operators() { return entries; }

}  // namespace tilewright::onnx
