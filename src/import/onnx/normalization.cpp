#include <numeric>

#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

/// Statistics of half-precision data are taken in f32.
DType statistics_dtype(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

std::vector<int64_t> axes_from(int first, int rank) {
  std::vector<int64_t> axes(static_cast<size_t>(std::max(0, rank - first)));
  std::iota(axes.begin(), axes.end(), first);
  return axes;
}

struct Moments {
  ValueId mean, variance;  ///< reduced axes kept as 1
  ValueId centred;         ///< x - mean
};

/// Population mean and variance.
Moments moments(Builder& b, ValueId x, const std::vector<int64_t>& axes) {
  Moments m;
  m.mean = b.reduce("reduce_mean", x, axes);
  m.centred = b.sub(x, m.mean);
  m.variance = b.reduce("reduce_mean", b.mul(m.centred, m.centred), axes);
  return m;
}

/// 1 / sqrt(x + epsilon)
ValueId inverse_root(Builder& b, ValueId x, double epsilon) { return b.div(b.scalar(b.dtype(x), 1), b.sqrt(b.add(x, epsilon))); }

/// A parameter with one entry a channel, laid along axis 1 of something of `rank`; a parameter of several axes (one entry an element) is
/// laid from axis 1 on.
ValueId along_channels(Builder& b, ValueId parameter, int rank, DType as) {
  Dims dims(1, Dim(1));
  for (const Dim& d : b.dims(parameter)) dims.push_back(d);
  while (static_cast<int>(dims.size()) < rank) dims.push_back(1);
  return b.cast(b.reshape(parameter, dims), as);
}

ValueId reshape_like(Builder& b, ValueId x, ValueId like) { return b.reshape(x, b.dims(like)); }

/// y = scale·(x - mean)/sqrt(var + epsilon) + bias. Until opset 13 a node with more than one output trains; from 14 on
/// `training_mode` says so.
void batch_normalization(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const int rank = b.rank(x);
  n.require(rank >= 1, "input is {}; needs a batch axis", str(b.type(x)));
  const DType inner = statistics_dtype(b.dtype(x));
  const double epsilon = n.real("epsilon", 1e-5), momentum = n.real("momentum", 0.9);
  bool training = false;
  if (n.opset() >= 14)
    training = n.flag("training_mode", false);
  else
    for (int i = 1; i < n.output_count(); ++i) training = training || n.wants(i);
  if (n.opset() < 7 && n.flag("is_test", false)) training = false;
  auto parameter = [&](int i) { return rank == 1 ? b.cast(n.in(i), inner) : along_channels(b, n.in(i), rank, inner); };
  const ValueId wide = b.cast(x, inner);

  if (!training) {
    const ValueId factor = b.div(parameter(1), b.sqrt(b.add(parameter(4), epsilon)));
    n.set(b.cast(b.add(b.mul(b.sub(wide, parameter(3)), factor), parameter(2)), b.dtype(x)));
    return;
  }
  // Statistics over the batch, and over the positions when the parameters have one entry a channel.
  std::vector<int64_t> axes{0};
  if (b.rank(n.in(1)) == 1 && rank > 1)
    for (int64_t a = 2; a < rank; ++a) axes.push_back(a);
  const Moments m = moments(b, wide, axes);
  const ValueId factor = b.div(parameter(1), b.sqrt(b.add(m.variance, epsilon)));
  n.set(b.cast(b.add(b.mul(m.centred, factor), parameter(2)), b.dtype(x)));
  auto running = [&](int input, ValueId current) {
    const ValueId old = b.cast(n.in(input), inner);
    return b.cast(b.add(b.mul(old, momentum), b.mul(reshape_like(b, current, old), 1 - momentum)), n.dtype(input));
  };
  if (n.wants(1)) n.set(1, running(3, m.mean));
  if (n.wants(2)) n.set(2, running(4, m.variance));
  if (n.wants(3)) n.set(3, b.cast(reshape_like(b, m.mean, n.in(3)), n.dtype(3)));
  if (n.wants(4)) n.set(4, b.cast(reshape_like(b, m.variance, n.in(4)), n.dtype(4)));
}

void instance_normalization(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const int rank = b.rank(x);
  n.require(rank >= 3, "input is {}; needs [batch, channels, positions…]", str(b.type(x)));
  const DType inner = statistics_dtype(b.dtype(x));
  const Moments m = moments(b, b.cast(x, inner), axes_from(2, rank));
  const ValueId factor = b.mul(along_channels(b, n.in(1), rank, inner), inverse_root(b, m.variance, n.real("epsilon", 1e-5)));
  n.set(b.cast(b.add(b.mul(m.centred, factor), along_channels(b, n.in(2), rank, inner)), b.dtype(x)));
}

/// The dtype that `stash_type` names, never narrower than the data's own statistics need.
DType stash_dtype(NodeImport& n, DType data) {
  const DType stash = n.dtype_attribute("stash_type", DType::f32);
  return data == DType::f64 ? DType::f64 : statistics_dtype(stash);
}

/// Normalises over the axes from `axis` on; scale and bias broadcast to them. Outputs: y, mean, 1/standard deviation.
void layer_normalization(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const DType stored = n.dtype_attribute("stash_type", DType::f32), inner = stash_dtype(n, b.dtype(x));
  const int axis = n.axis(n.integer("axis", -1), b.rank(x));
  const Moments m = moments(b, b.cast(x, inner), axes_from(axis, b.rank(x)));
  const ValueId inverse = inverse_root(b, m.variance, n.real("epsilon", 1e-5));
  ValueId y = b.mul(b.mul(m.centred, inverse), b.cast(n.in(1), inner));
  if (n.has(2)) y = b.add(y, b.cast(n.in(2), inner));
  n.set(b.cast(y, b.dtype(x)));
  if (n.wants(1)) n.set(1, b.cast(m.mean, stored));
  if (n.wants(2)) n.set(2, b.cast(inverse, stored));
}

/// y = scale·x / sqrt(mean(x²) + epsilon). ONNX's own and com.microsoft's SimplifiedLayerNormalization, which also gives the inverse root.
void rms_normalization(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const ValueId wide = b.cast(x, stash_dtype(n, b.dtype(x)));
  const int axis = n.axis(n.integer("axis", -1), b.rank(x));
  const ValueId inverse = inverse_root(b, b.reduce("reduce_mean", b.mul(wide, wide), axes_from(axis, b.rank(x))), n.real("epsilon", 1e-5));
  n.set(b.cast(b.mul(b.mul(wide, inverse), b.cast(n.in(1), b.dtype(wide))), b.dtype(n.in(1))));
  if (n.wants(1)) n.set(1, inverse);
}

/// Opset 18 has one scale and bias a group, opset 21 one a channel.
void group_normalization(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const Dims dims = b.dims(x);
  const int rank = b.rank(x);
  n.require(rank >= 2, "input is {}; needs [batch, channels, positions…]", str(b.type(x)));
  const int64_t groups = n.integer("num_groups");
  n.require(groups > 0 && (!dims[1].is_constant() || dims[1].constant() % groups == 0), "{} channels in {} groups; must divide", dims[1].str(), groups);
  const DType inner = stash_dtype(n, b.dtype(x));
  Dim per_group = dims[1] / Dim(groups);
  for (int a = 2; a < rank; ++a) per_group *= dims[static_cast<size_t>(a)];
  const Moments m = moments(b, b.reshape(b.cast(x, inner), {dims[0], groups, per_group}), {2});
  ValueId y = b.mul(m.centred, inverse_root(b, m.variance, n.real("epsilon", 1e-5)));
  if (n.opset() < 21) {
    y = b.add(b.mul(y, along_channels(b, n.in(1), 3, inner)), along_channels(b, n.in(2), 3, inner));
    n.set(b.cast(b.reshape(y, dims), b.dtype(x)));
    return;
  }
  y = b.mul(b.reshape(y, dims), along_channels(b, n.in(1), rank, inner));
  n.set(b.cast(b.add(y, along_channels(b, n.in(2), rank, inner)), b.dtype(x)));
}

/// y = x / ‖x‖ₚ along one axis; a vector of zeros stays zero.
void lp_normalization(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const int64_t p = n.integer("p", 2);
  n.require(p == 1 || p == 2, "p is {}; needs 1 or 2", p);
  const std::vector<int64_t> axes{n.axis(n.integer("axis", -1), b.rank(x))};
  const ValueId wide = b.cast(x, statistics_dtype(b.dtype(x)));
  const ValueId norm = p == 1 ? b.reduce("reduce_sum", b.unary("abs", wide), axes) : b.sqrt(b.reduce("reduce_sum", b.mul(wide, wide), axes));
  const ValueId zero = b.scalar(b.dtype(wide), 0), one = b.scalar(b.dtype(wide), 1);
  n.set(b.cast(b.div(wide, b.where(b.equal(norm, zero), one, norm)), b.dtype(x)));
}

/// y = x / (bias + alpha·mean of x² over `size` neighbouring channels, zeros outside)^beta. Channels become the window's axis of an
/// average pooling: [batch, 1, channels, positions].
void lrn(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const Dims dims = b.dims(x);
  n.require(dims.size() >= 2, "input is {}; needs [batch, channels, positions…]", str(b.type(x)));
  const int64_t size = n.integer("size");
  n.require(size >= 1, "size is {}; needs at least 1", size);
  const DType inner = statistics_dtype(b.dtype(x));
  const ValueId wide = b.cast(x, inner);
  const Dims folded{dims[0], 1, dims[1], product(Dims(dims.begin() + 2, dims.end()))};
  const std::vector<int64_t> ones{1, 1};
  const ValueId mean = b.one("average_pool", {b.reshape(b.mul(wide, wide), folded)},
                             {{"kernel", std::vector<int64_t>{size, 1}},
                              {"strides", ones},
                              {"dilations", ones},
                              {"pads", std::vector<int64_t>{(size - 1) / 2, 0, size / 2, 0}},
                              {"ceil_mode", int64_t{0}},
                              {"include_pad", int64_t{1}}});
  const ValueId base = b.add(b.mul(b.reshape(mean, dims), n.real("alpha", 1e-4)), n.real("bias", 1.0));
  n.set(b.cast(b.div(wide, b.pow(base, b.scalar(inner, n.real("beta", 0.75)))), b.dtype(x)));
}

void mean_variance_normalization(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  std::vector<int64_t> axes = n.integers("axes");
  if (!n.has_attribute("axes")) axes = {0, 2, 3};
  const Moments m = moments(b, b.cast(x, statistics_dtype(b.dtype(x))), n.axes(axes, b.rank(x)));
  constexpr double epsilon = 1e-9;  // the specification's, added to the standard deviation
  n.set(b.cast(b.div(m.centred, b.add(b.sqrt(m.variance), epsilon)), b.dtype(x)));
}

constexpr OperatorEntry entries[] = {
    {"", "BatchNormalization", 1, batch_normalization},
    {"", "GroupNormalization", 18, group_normalization},
    {"", "InstanceNormalization", 1, instance_normalization},
    {"", "LRN", 1, lrn},
    {"", "LayerNormalization", 1, layer_normalization},
    {"", "LpNormalization", 1, lp_normalization},
    {"", "MeanVarianceNormalization", 9, mean_variance_normalization},
    {"", "RMSNormalization", 23, rms_normalization},
    {"", "SimplifiedLayerNormalization", 1, rms_normalization},
};

}  // namespace

std::span<const OperatorEntry> normalization_operators() { return entries; }

}  // namespace tilewright::onnx
