#include "op/convolution.h"
#include "op/tables.h"
#include "op/windows.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::Map;
using pattern::NestBuilder;
using pattern::ReduceOp;

DType accumulator_of(DType result) { return result == DType::f16 || result == DType::bf16 ? DType::f32 : result; }

void check_bias(const InferContext& c, int bias, const Dim& channels) {
  if (!c.has(bias)) return;
  c.require(c.rank(bias) == 1, "bias is {}; needs [{}]", str(c.type(bias)), channels.str());
  c.require_equal(c.dims(bias)[0], channels, "bias and output channels");
}

int64_t groups_of(const InferContext& c) {
  const int64_t groups = c.integer_or("groups", 1);
  c.require(groups >= 1, "groups is {}", groups);
  return groups;
}

std::vector<Type> infer_conv(const InferContext& c) {
  const bool widened = c.node().attributes.count("dtype") > 0;
  c.require(widened || c.dtype(0) == c.dtype(1), "input is {}, weights are {}; dtypes must agree", str(c.type(0)), str(c.type(1)));
  return {{widened ? c.dtype_attribute("dtype") : c.dtype(0), convolved_dims(c, 2)}};
}

/// Stores the sum, plus the bias of its channel, in the result's dtype. `space`: [n, (group,) m, o…, summed…], the first `lead` before o….
void finish(Lowering& l, NestBuilder& n, const Dims& space, int lead, Expr sum, int bias) {
  const Type out = l.out_type();
  Map store = Map::identity(out.dims);
  if (lead == 3) {
    Dims split(space.begin(), space.begin() + lead);
    split.insert(split.end(), out.dims.begin() + 2, out.dims.end());
    store = store.reshaped(std::span<const Dim>(split));
  }
  if (l.has(bias)) {
    Map channel = Map::identity(l.in_type(bias).dims);
    if (lead == 3) channel = channel.reshaped({space[1], space[2]});
    channel = channel.inserted(0, space[0]);
    for (int axis = lead; axis < static_cast<int>(space.size()); ++axis) channel = channel.inserted(axis, space[static_cast<size_t>(axis)]);
    sum = sum + n.cast(n.load(l.in(bias), l.in_type(bias).dtype, channel), sum.dtype());
  }
  n.store(l.out(), store, n.cast(sum, out.dtype));
  l.emit(n);
}

/// out[n, m, o…] = Σ x[n, c, o·stride + k·dilation − pad] · w[m, c, k…] within each group.
void lower_conv(Lowering& l) {
  const Dims x = l.in_type(0).dims, w = l.in_type(1).dims, out = l.out_type().dims;
  const Windows windows = windows_of(l.context(), Dims(w.begin() + 2, w.end()));
  emit_convolution(l, l.in(0), windows.view(x, Dims(out.begin() + 2, out.end())), 2);
}

std::vector<Type> infer_conv_transpose(const InferContext& c) {
  c.require(c.rank(0) >= 3 && c.rank(1) == c.rank(0) && c.dtype(0) == c.dtype(1),
            "input is {}, weights are {}; needs [n,c,spatial…] and [c,m/groups,kernel…] of one dtype", str(c.type(0)), str(c.type(1)));
  const int64_t groups = groups_of(c);
  c.require_equal(c.dims(0)[1], c.dims(1)[0], fmt::format("channels of input {} and weights {}", str(c.dims(0)), str(c.dims(1))));
  const Dim m = c.dims(1)[1] * groups;
  check_bias(c, 2, m);
  const Windows w = windows_of(c, Dims(c.dims(1).begin() + 2, c.dims(1).end()));
  const auto extra = c.integers("output_padding");
  Dims dims = {c.dims(0)[0], m};
  for (size_t axis = 0; axis < static_cast<size_t>(w.rank); ++axis) {
    const Dim size = (c.dims(0)[axis + 2] - 1) * w.strides[axis] + (w.kernel[axis] - 1) * w.dilations[axis] + 1 - w.begin[axis] - w.end[axis] +
                     (extra.empty() ? 0 : extra.at(axis));
    c.require(!size.is_constant() || size.constant() >= 0, "spatial axis {} would have size {}", axis, size.str());
    dims.push_back(size);
  }
  return {{c.node().attributes.count("dtype") > 0 ? c.dtype_attribute("dtype") : c.dtype(0), dims}};
}

/// [n, c, (o, k)…] seen from [n, (g,) m, o…, c, k…]. `split`: {groups, channels of each}; empty without groups.
Map over_products(Map view, int spatial, const Dims& split, const Dim& m) {
  const bool grouped = !split.empty();
  const int lead = grouped ? 3 : 2;
  if (grouped) {
    Dims dims;
    for (int d = 0; d < view.rank_in(); ++d) {
      if (d == 1)
        dims.insert(dims.end(), split.begin(), split.end());
      else
        dims.push_back(view.extent_in(d));
    }
    view = view.reshaped(std::span<const Dim>(dims));
  }
  std::vector<int> order = {0};
  if (grouped) order.push_back(1);
  for (int axis = 0; axis < spatial; ++axis) order.push_back(lead + 2 * axis);
  order.push_back(lead - 1);
  for (int axis = 0; axis < spatial; ++axis) order.push_back(lead + 2 * axis + 1);
  return view.transposed(std::span<const int>(order)).inserted(lead - 1, m);
}

/// Gathered, not scattered: out[n, g, m, o…] = Σ over c, k… of w[g, c, m, k…] · x at (o + pad − k·dilation) / stride, where that is whole and inside.
void lower_conv_transpose(Lowering& l) {
  const InferContext c = l.context();
  const Type x = l.in_type(0), w = l.in_type(1), out = l.out_type();
  const Dim groups = groups_of(c);
  const bool grouped = !(groups == Dim(1));
  const Windows windows = windows_of(c, Dims(w.dims.begin() + 2, w.dims.end()));
  const int spatial = windows.rank, lead = grouped ? 3 : 2;
  const Dim m = w.dims[1], inner = w.dims[0] / groups;

  Dims space = grouped ? Dims{out.dims[0], groups, m} : Dims{out.dims[0], m};
  space.insert(space.end(), out.dims.begin() + 2, out.dims.end());
  space.push_back(inner);
  space.insert(space.end(), w.dims.begin() + 2, w.dims.end());

  Map view = Map::identity(x.dims);
  for (int axis = 0; axis < spatial; ++axis) {
    const size_t s = static_cast<size_t>(axis);
    const int at = 2 + 2 * axis;
    const Dim dilated = (x.dims[s + 2] - 1) * windows.strides[s] + 1;
    if (!(windows.strides[s] == Dim(1))) view = view.undilated(at, windows.strides[s], dilated);
    const Dim before = (windows.kernel[s] - 1) * windows.dilations[s] - windows.begin[s];
    const Dim after = out.dims[s + 2] + (windows.kernel[s] - 1) * windows.dilations[s] - dilated - before;
    view = view.padded(at, before, after).windows(at, out.dims[s + 2], windows.kernel[s], 1, windows.dilations[s]).reversed(at + 1);
  }
  view = over_products(std::move(view), spatial, grouped ? Dims{groups, inner} : Dims{}, m);

  // w: [c, m, k…] → [n, (g,) m, o…, c, k…]
  Map weights = Map::identity(w.dims);
  if (grouped) {
    Dims split = {groups, inner};
    split.insert(split.end(), w.dims.begin() + 1, w.dims.end());
    weights = weights.reshaped(std::span<const Dim>(split));
  }
  std::vector<int> swap;
  for (int d = 0; d < weights.rank_in(); ++d) swap.push_back(d);
  std::swap(swap[static_cast<size_t>(lead) - 2], swap[static_cast<size_t>(lead) - 1]);  // channels in after channels out
  weights = weights.transposed(std::span<const int>(swap)).inserted(0, out.dims[0]);
  for (int axis = 0; axis < spatial; ++axis) weights = weights.inserted(lead + axis, out.dims[static_cast<size_t>(axis) + 2]);

  NestBuilder n(space, 1 + spatial);
  const DType wide = accumulator_of(out.dtype);
  std::optional<Expr> fill;
  if (view.may_be_invalid()) fill = n.constant(x.dtype, 0);
  const Expr product = n.cast(n.load(l.in(0), x.dtype, view, {}, fill), wide) * n.cast(n.load(l.in(1), w.dtype, weights), wide);
  const Expr sum = n.reduce(ReduceOp::sum, product, wide);
  finish(l, n, space, lead, sum, 2);
}

constexpr OpDef ops[] = {{"conv", 2, 3, infer_conv, lower_conv}, {"conv_transpose", 2, 3, infer_conv_transpose, lower_conv_transpose}};

}  // namespace

Dims convolved_dims(const InferContext& c, int bias) {
  c.require(c.rank(0) >= 3 && c.rank(1) == c.rank(0), "input is {}, weights are {}; needs [n,c,spatial…] and [m,c/groups,kernel…]", str(c.type(0)),
            str(c.type(1)));
  const int64_t groups = groups_of(c);
  c.require_equal(c.dims(0)[1], c.dims(1)[1] * groups,
                  fmt::format("channels of input {} and weights {} with {} groups", str(c.dims(0)), str(c.dims(1)), groups));
  const Dim m = c.dims(1)[0];
  c.require(!m.is_constant() || m.constant() % groups == 0, "{} output channels do not divide into {} groups", m.str(), groups);
  check_bias(c, bias, m);
  const Windows w = windows_of(c, Dims(c.dims(1).begin() + 2, c.dims(1).end()));
  Dims dims = {c.dims(0)[0], m};
  for (int axis = 0; axis < w.rank; ++axis) dims.push_back(w.positions(c, c.dims(0)[static_cast<size_t>(axis) + 2], axis, false));
  return dims;
}

/// Reduced over c, k…; the group coordinate only when there are groups.
void emit_convolution(Lowering& l, pattern::TensorId columns, Map view, int bias) {
  const Type w = l.in_type(1), out = l.out_type();
  const DType dtype = l.program.tensor(columns).type.dtype;
  const Dim groups = groups_of(l.context());
  const bool grouped = !(groups == Dim(1));
  const int spatial = static_cast<int>(w.dims.size()) - 2, lead = grouped ? 3 : 2;
  const Dim m = w.dims[0] / groups, inner = w.dims[1];

  Dims space = grouped ? Dims{out.dims[0], groups, m} : Dims{out.dims[0], m};
  space.insert(space.end(), out.dims.begin() + 2, out.dims.end());
  space.push_back(inner);
  space.insert(space.end(), w.dims.begin() + 2, w.dims.end());

  view = over_products(std::move(view), spatial, grouped ? Dims{groups, inner} : Dims{}, m);

  // w: [m, c, k…] → [n, (g,) m, o…, c, k…]
  Map weights = Map::identity(w.dims);
  if (grouped) {
    Dims split = {groups, m};
    split.insert(split.end(), w.dims.begin() + 1, w.dims.end());
    weights = weights.reshaped(std::span<const Dim>(split));
  }
  weights = weights.inserted(0, out.dims[0]);
  for (int axis = 0; axis < spatial; ++axis) weights = weights.inserted(lead + axis, out.dims[static_cast<size_t>(axis) + 2]);

  NestBuilder n(space, 1 + spatial);
  const DType wide = accumulator_of(out.dtype);
  std::optional<Expr> fill;
  if (view.may_be_invalid()) fill = n.constant(dtype, 0);
  const Expr product = n.cast(n.load(columns, dtype, view, {}, fill), wide) * n.cast(n.load(l.in(1), w.dtype, weights), wide);
  const Expr sum = n.reduce(ReduceOp::sum, product, wide);
  finish(l, n, space, lead, sum, bias);
}

std::span<const OpDef> convolution_ops() { return ops; }

}  // namespace tilewright
