#include <array>
#include <cmath>
#include <limits>

#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

/// [batch, length, heads·size] → [batch, heads, length, size]
ValueId split_heads(NodeImport& n, ValueId x, int64_t heads) {
  Builder& b = n.b;
  const Dims dims = b.dims(x);
  n.require(heads > 0 && (!dims[2].is_constant() || dims[2].constant() % heads == 0), "{} does not split into {} heads", str(b.type(x)), heads);
  return b.transpose(b.reshape(x, {dims[0], dims[1], heads, dims[2] / Dim(heads)}), {0, 2, 1, 3});
}

/// [batch, heads, length, size] → [batch, length, heads·size]
ValueId join_heads(Builder& b, ValueId x) { return b.flatten_to(b.transpose(x, {0, 2, 1, 3}), 2, 4); }

/// Query heads share key heads in runs: axis 1 repeated `times`, each head beside its copies.
ValueId repeat_heads(Builder& b, ValueId x, const Dim& times) {
  if (times == Dim(1)) return x;
  Dims dims = b.dims(x);
  dims.insert(dims.begin() + 2, times);
  return b.flatten_to(b.broadcast(b.unsqueeze(x, {2}), dims), 1, 3);
}

Dim heads_per_key_head(NodeImport& n, const Dim& query_heads, const Dim& key_heads) {
  n.require(!query_heads.is_constant() || !key_heads.is_constant() || (key_heads.constant() > 0 && query_heads.constant() % key_heads.constant() == 0),
            "{} query heads for {} key heads; must be a multiple", query_heads.str(), key_heads.str());
  return query_heads / key_heads;
}

/// A size as a scalar of `dtype`.
ValueId size_scalar(Builder& b, const Dim& size, DType dtype) {
  if (const auto constant = size.as_constant()) return b.scalar(dtype, static_cast<double>(*constant));
  return b.cast(b.reshape(b.sizes({size}), {}), dtype);
}

/// 0 where allowed, -∞ elsewhere.
ValueId as_bias(Builder& b, ValueId allowed, DType dtype) { return b.where(allowed, b.scalar(dtype, 0), b.scalar(dtype, minus_infinity)); }

/// Mask, causality, windows and padding of keys as one bias to add to the scores; no_value when nothing is masked.
ValueId attention_bias(NodeImport& n, const Dim& query_length, const Dim& key_length, const Dim& past_length, DType dtype) {
  Builder& b = n.b;
  ValueId bias = no_value;
  auto combine = [&](ValueId more) { bias = bias == no_value ? more : b.add(bias, more); };
  if (n.has(3)) {
    ValueId mask = n.in(3);
    mask = b.dtype(mask) == DType::boolean ? as_bias(b, mask, dtype) : b.cast(mask, dtype);
    n.require(b.rank(mask) >= 1 && b.rank(mask) <= 4, "the mask is {}; needs 1 to 4 axes", str(b.type(mask)));
    const Dim missing = key_length - b.dims(mask).back();
    if (n.opset() >= 24 && !(missing == Dim(0))) {
      Dims before(static_cast<size_t>(b.rank(mask)), Dim(0)), after = before;
      after.back() = missing;
      mask = b.pad(mask, before, after, "constant", b.scalar(dtype, minus_infinity));
    }
    combine(mask);
  }
  // Positions of keys, and of queries counted as keys are: the queries follow what is cached.
  const Dims plane{query_length, key_length};
  const int64_t left = n.integer("left_window_size", -1), right = n.integer("right_window_size", -1);
  n.require(left >= -1 && right >= -1, "window sizes are {} and {}; need -1 or more", left, right);
  const bool causal = n.flag("is_causal", false);
  if (causal || left >= 0 || right >= 0) {
    ValueId query = b.iota(DType::i64, plane, 0);
    ValueId key = b.iota(DType::i64, plane, 1);
    if (n.has(6) && !n.has(4)) {
      const ValueId cached = b.sub(b.cast(n.in(6), DType::i64), size_scalar(b, query_length, DType::i64));
      query = b.add(query, b.unsqueeze(cached, {1, 2, 3}));
    } else {
      query = b.add(query, size_scalar(b, past_length, DType::i64));
    }
    if (causal) combine(as_bias(b, b.less_equal(key, query), dtype));
    if (left >= 0) combine(as_bias(b, b.less_equal(b.sub(query, b.scalar(DType::i64, static_cast<double>(left))), key), dtype));
    if (right >= 0) combine(as_bias(b, b.less_equal(key, b.add(query, b.scalar(DType::i64, static_cast<double>(right)))), dtype));
  }
  if (n.has(6)) {
    const ValueId valid = b.unsqueeze(b.cast(n.in(6), DType::i64), {1, 2, 3});
    combine(as_bias(b, b.less(b.iota(DType::i64, {1, 1, 1, key_length}, 3), valid), dtype));
  }
  return bias;
}

/// Softmax over the last axis in `precision`; rows whose bias masks every key become zeros.
ValueId masked_softmax(Builder& b, ValueId scores, ValueId bias, DType precision) {
  ValueId probabilities = b.softmax(b.cast(scores, precision), b.rank(scores) - 1);
  if (bias == no_value) return probabilities;
  const ValueId best = b.reduce("reduce_max", bias, {b.rank(bias) - 1});
  const ValueId all_masked = b.equal(best, b.scalar(b.dtype(bias), minus_infinity));
  return b.where(all_masked, b.scalar(precision, 0), probabilities);
}

/// Outputs: y, present key, present value, scores (after the product, softcap, bias or softmax, as qk_matmul_output_mode says).
void attention(NodeImport& n) {
  Builder& b = n.b;
  ValueId q = n.in(0), k = n.in(1), v = n.in(2);
  const bool packed = b.rank(q) == 3;
  for (ValueId x : {q, k, v})
    n.require(b.rank(x) == (packed ? 3 : 4), "inputs are {}, {}, {}; need 3 axes each or 4 each", str(b.type(q)), str(b.type(k)), str(b.type(v)));
  if (packed) {
    q = split_heads(n, q, n.integer("q_num_heads"));
    k = split_heads(n, k, n.integer("kv_num_heads"));
    v = split_heads(n, v, n.integer("kv_num_heads"));
  }
  n.require(n.has(4) == n.has(5), "past key and past value must be given together");
  Dim past_length = 0;
  if (n.has(4)) {
    n.require(n.rank(4) == 4 && n.rank(5) == 4, "past key and value need 4 axes");
    past_length = n.dims(4)[2];
    k = b.concat({n.in(4), k}, 2);
    v = b.concat({n.in(5), v}, 2);
  }
  if (n.wants(1)) n.set(1, k);
  if (n.wants(2)) n.set(2, v);
  const DType dtype = b.dtype(q);
  const Dim query_length = b.dims(q)[2], key_length = b.dims(k)[2], head_size = b.dims(q)[3];
  const Dim sharing = heads_per_key_head(n, b.dims(q)[1], b.dims(k)[1]);
  k = repeat_heads(b, k, sharing);
  v = repeat_heads(b, v, sharing);

  // Both factors take the root of the scale: the product cannot overflow where the scaled scores do not.
  ValueId root;
  if (n.has_attribute("scale")) {
    n.require(n.real("scale") >= 0, "scale is {}; needs to be at least 0", n.real("scale"));
    root = b.scalar(dtype, std::sqrt(n.real("scale")));
  } else if (head_size.is_constant()) {
    n.require(head_size.constant() > 0, "heads have no elements");
    root = b.scalar(dtype, std::sqrt(1 / std::sqrt(static_cast<double>(head_size.constant()))));
  } else {
    const ValueId size = size_scalar(b, head_size, DType::f32);
    root = b.cast(b.sqrt(b.div(b.scalar(DType::f32, 1), b.sqrt(size))), dtype);
  }
  const int64_t mode = n.integer("qk_matmul_output_mode", 0);
  n.require(mode >= 0 && mode <= 3, "qk_matmul_output_mode is {}; needs 0 to 3", mode);
  auto show = [&](int64_t stage, ValueId scores) {
    if (stage == mode && n.wants(3)) n.set(3, b.cast(scores, dtype));
  };
  ValueId scores = b.matmul(b.mul(q, root), b.mul(b.transpose(k, {0, 1, 3, 2}), root));
  show(0, scores);
  const double softcap = n.real("softcap", 0);
  if (softcap > 0) scores = b.mul(b.tanh(b.mul(scores, 1 / softcap)), softcap);
  show(1, scores);
  const ValueId bias = attention_bias(n, query_length, key_length, past_length, dtype);
  if (bias != no_value) scores = b.add(scores, bias);
  show(2, scores);
  const ValueId probabilities = b.cast(masked_softmax(b, scores, bias, n.dtype_attribute("softmax_precision", dtype)), dtype);
  show(3, probabilities);
  const ValueId y = b.matmul(b.cast(probabilities, b.dtype(v)), v);
  n.set(0, b.cast(packed ? join_heads(b, y) : y, dtype));
}

/// Turns pairs of a head's leading `rotary_embedding_dim` elements by the position's angles: (x1, x2) → (cos·x1 - sin·x2, sin·x1 + cos·x2).
void rotary_embedding(NodeImport& n) {
  Builder& b = n.b;
  const bool packed = n.rank(0) == 3;
  n.require(packed || n.rank(0) == 4, "input is {}; needs 3 or 4 axes", str(b.type(n.in(0))));
  const ValueId x = packed ? split_heads(n, n.in(0), n.integer("num_heads")) : n.in(0);  // [batch, heads, length, size]
  const Dims dims = b.dims(x);
  const int64_t rotary = n.integer("rotary_embedding_dim", 0);
  const Dim rotated = rotary == 0 ? dims[3] : Dim(rotary);
  n.require(!rotated.is_constant() || (rotated.constant() > 0 && rotated.constant() % 2 == 0), "{} elements to rotate; needs an even number", rotated.str());
  const Dim half = rotated / Dim(2);
  auto angles = [&](int i) {  // [batch, 1, length, half]
    const ValueId cache = n.has(3) ? b.gather(n.in(i), n.in(3), 0) : n.in(i);
    n.require(b.rank(cache) == 3, "input {} gives {} per position; needs [batch, length, half]", i, str(b.type(cache)));
    return b.unsqueeze(cache, {1});
  };
  const ValueId cosine = angles(1), sine = angles(2);
  const bool interleaved = n.flag("interleaved", false);
  const ValueId first = interleaved ? b.slice(x, 3, Dim(0), half, 2) : b.slice(x, 3, Dim(0), half);
  const ValueId second = interleaved ? b.slice(x, 3, Dim(1), half, 2) : b.slice(x, 3, half, half);
  const ValueId real = b.sub(b.mul(cosine, first), b.mul(sine, second));
  const ValueId imaginary = b.add(b.mul(sine, first), b.mul(cosine, second));
  ValueId y = interleaved ? b.flatten_to(b.concat({b.unsqueeze(real, {4}), b.unsqueeze(imaginary, {4})}, 4), 3, 5) : b.concat({real, imaginary}, 3);
  if (!(rotated == dims[3])) y = b.concat({y, b.slice(x, 3, rotated, dims[3] - rotated)}, 3);
  n.set(packed ? join_heads(b, y) : y);
}

/// state = exp(decay)·state; state += k ⊗ (v, or beta·(v - stateᵀ·k)); output = scale·q·state, in f32 over the sequence.
void linear_attention(NodeImport& n) {
  Builder& b = n.b;
  const std::string rule = n.text("update_rule", "gated_delta");
  const bool gated = rule == "gated" || rule == "gated_delta", delta = rule == "delta" || rule == "gated_delta";
  n.require(gated || delta || rule == "linear", "update_rule is '{}'; needs linear, gated, delta or gated_delta", rule);
  n.require(n.has(4) == gated, "update rule '{}' {} a decay", rule, gated ? "needs" : "takes no");
  n.require(n.has(5) == delta, "update rule '{}' {} a beta", rule, delta ? "needs" : "takes no");
  const int64_t query_heads = n.integer("q_num_heads"), heads = n.integer("kv_num_heads");
  n.require(heads > 0 && query_heads > 0 && query_heads % heads == 0, "{} query heads for {} key heads", query_heads, heads);
  for (int i : {0, 1, 2, 4, 5})
    if (n.has(i)) n.require(n.rank(i) == 3, "input {} is {}; needs 3 axes", i, str(b.type(n.in(i))));
  // Time leads, for the loop: [length, batch, heads, size].
  auto by_time = [&](ValueId x, int64_t count) {
    const Dims dims = b.dims(x);
    n.require(!dims[2].is_constant() || dims[2].constant() % count == 0, "{} does not split into {} heads", str(b.type(x)), count);
    return b.transpose(b.reshape(b.cast(x, DType::f32), {dims[0], dims[1], count, dims[2] / Dim(count)}), {1, 0, 2, 3});
  };
  const ValueId q = by_time(n.in(0), query_heads), k = by_time(n.in(1), heads), v = by_time(n.in(2), heads);
  std::vector<ValueId> invariants{q, k, v};
  if (gated) invariants.push_back(by_time(n.in(4), heads));
  if (delta) invariants.push_back(by_time(n.in(5), n.dims(5)[2] == Dim(1) ? 1 : heads));
  const Dim length = b.dims(q)[0], batch = b.dims(q)[1], key_size = b.dims(q)[3], value_size = b.dims(v)[3];
  const DType state_dtype = n.has(3) ? n.dtype(3) : n.dtype(0);
  const ValueId state = n.has(3) ? b.cast(n.in(3), DType::f32) : b.broadcast(b.scalar(DType::f32, 0), {batch, heads, key_size, value_size});
  auto step = [&](Builder& in, ValueId t, ValueId condition, const std::vector<ValueId>& carried, const std::vector<ValueId>& inside) {
    auto at = [&](size_t i) { return in.gather(inside[i], t, 0); };  // [batch, heads, size]
    ValueId s = carried[0];
    if (gated) s = in.mul(s, in.unsqueeze(in.exp(at(3)), {3}));
    const ValueId key = in.unsqueeze(at(1), {3});  // a column
    ValueId value = in.unsqueeze(at(2), {2});      // a row
    if (delta) {
      const ValueId known = in.reduce("reduce_sum", in.mul(s, key), {2});
      value = in.mul(in.unsqueeze(at(gated ? 4 : 3), {3}), in.sub(value, known));
    }
    s = in.add(s, in.mul(key, value));
    const ValueId read = in.matmul(in.unsqueeze(at(0), {2}), repeat_heads(in, s, query_heads / heads));
    return std::vector<ValueId>{condition, s, in.squeeze(read, {2})};
  };
  const std::vector<ValueId> results = b.loop(b.reshape(b.sizes({length}), {}), no_value, {state}, invariants, step);
  const double stated = n.real("scale", 0);
  const ValueId scale = stated != 0 ? b.scalar(DType::f32, stated) : b.div(b.scalar(DType::f32, 1), b.sqrt(size_scalar(b, key_size, DType::f32)));
  const ValueId y = b.transpose(b.mul(b.reshape(results[1], {length, batch, query_heads, value_size}), scale), {1, 0, 2, 3});
  n.set(0, b.cast(b.flatten_to(y, 2, 4), n.dtype(0)));
  if (n.wants(1)) n.set(1, b.cast(results[0], state_dtype));
}

/// A depthwise convolution over the past's last k-1 positions followed by the input; those of the new sequence are the next past.
void causal_conv_with_state(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0), w = n.in(1);
  n.require(b.rank(x) == 3 && b.rank(w) == 3, "input is {}, weight {}; need 3 axes", str(b.type(x)), str(b.type(w)));
  const Dims dims = b.dims(x);
  const Dim past = b.dims(w)[2] - 1;
  const auto channels = dims[1].is_constant() ? dims[1].as_constant() : b.dims(w)[0].as_constant();
  if (!channels) n.unsupported("the number of channels must be known");
  const std::string activation = n.text("activation", "none");
  n.require(activation == "none" || activation == "silu" || activation == "swish", "activation is '{}'; needs none, silu or swish", activation);
  const ValueId sequence = n.has(3) ? b.concat({n.in(3), x}, 2) : b.pad(x, {0, 0, past}, {0, 0, 0});
  std::vector<ValueId> operands{sequence, w};
  if (n.has(2)) operands.push_back(n.in(2));
  ValueId y =
      b.one("conv", operands,
            {{"strides", std::vector<int64_t>{1}}, {"dilations", std::vector<int64_t>{1}}, {"pads", std::vector<int64_t>{0, 0}}, {"groups", *channels}});
  if (activation != "none") {
    const ValueId wide = b.dtype(y) == DType::f64 ? y : b.cast(y, DType::f32);
    y = b.cast(b.mul(wide, b.sigmoid(wide)), b.dtype(x));
  }
  n.set(0, y);
  if (n.wants(1)) n.set(1, b.slice(sequence, 2, dims[2], past));
}

/// Attention whose scores and probabilities pass through sub-graphs of the model.
void flex_attention(NodeImport& n) {
  Builder& b = n.b;
  for (int i : {0, 1, 2}) n.require(n.rank(i) == 4, "input {} is {}; needs 4 axes", i, str(b.type(n.in(i))));
  const ValueId q = n.in(0);
  const Dim sharing = heads_per_key_head(n, b.dims(q)[1], n.dims(1)[1]);
  const ValueId k = repeat_heads(b, n.in(1), sharing), v = repeat_heads(b, n.in(2), sharing);
  const DType dtype = b.dtype(q);
  const DType precision = n.dtype_attribute("softmax_precision", dtype == DType::f64 ? DType::f64 : DType::f32);
  const Dim head_size = b.dims(q)[3];
  const ValueId scale =
      n.has_attribute("scale") ? b.scalar(precision, n.real("scale")) : b.div(b.scalar(precision, 1), b.sqrt(size_scalar(b, head_size, precision)));
  auto modify = [&](const char* name, ValueId x) {
    if (!n.has_attribute(name)) return x;
    const GraphProto& graph = n.graph(name);
    const std::array<const GraphProto*, 1> graphs{&graph};
    const Captures captures = n.captures(graphs);
    const std::vector<ValueId> results = n.import_subgraph(graph, b, {x}, captures, captures.values);
    n.require(results.size() == 1, "{} has {} outputs; needs 1", name, results.size());
    return results[0];
  };
  ValueId scores = b.mul(b.matmul(b.cast(q, precision), b.transpose(b.cast(k, precision), {0, 1, 3, 2})), scale);
  scores = modify("score_mod", scores);
  const ValueId probabilities = modify("prob_mod", b.softmax(scores, 3));
  n.set(b.cast(b.matmul(b.cast(probabilities, b.dtype(v)), v), dtype));
}

constexpr OperatorEntry entries[] = {
    {"", "Attention", 23, attention},
    {"", "CausalConvWithState", 27, causal_conv_with_state},
    {"ai.onnx.preview", "FlexAttention", 1, flex_attention},
    {"", "LinearAttention", 27, linear_attention},
    {"", "RotaryEmbedding", 23, rotary_embedding},
};

}  // namespace

std::span<const OperatorEntry> attention_operators() { return entries; }

}  // namespace tilewright::onnx
