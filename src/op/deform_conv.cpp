#include "op/convolution.h"
#include "op/sampling.h"
#include "op/tables.h"
#include "op/windows.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::Map;
using pattern::NestBuilder;
using pattern::ReduceOp;
using pattern::TensorId;

enum Operand { x_operand, weights_operand, offset_operand, bias_operand, mask_operand };

int64_t offset_groups_of(const InferContext& c) {
  const int64_t groups = c.integer_or("offset_groups", 1);
  c.require(groups >= 1, "offset_groups is {}", groups);
  return groups;
}

Dims kernel_of(const Dims& weights) { return Dims(weights.begin() + 2, weights.end()); }

/// `operand` holds `channels` for each window of the result.
void check_per_window(const InferContext& c, Operand operand, std::string_view name, const Dim& channels, const Dims& result) {
  c.require(c.rank(operand) == c.rank(x_operand) && is_float(c.dtype(operand)), "{} is {}; needs floats [n,{},positions…]", name, str(c.type(operand)),
            channels.str());
  c.require_equal(c.dims(operand)[0], result[0], fmt::format("batches of {} {} and result {}", name, str(c.dims(operand)), str(result)));
  c.require_equal(c.dims(operand)[1], channels, fmt::format("channels of {} {}", name, str(c.dims(operand))));
  for (size_t axis = 2; axis < result.size(); ++axis)
    c.require_equal(c.dims(operand)[axis], result[axis], fmt::format("positions of {} {} and result {}", name, str(c.dims(operand)), str(result)));
}

std::vector<Type> infer_deform_conv(const InferContext& c) {
  const Dims dims = convolved_dims(c, bias_operand);
  c.require(c.dtype(x_operand) == c.dtype(weights_operand) && is_float(c.dtype(x_operand)), "input is {}, weights are {}; needs floats of one dtype",
            str(c.type(x_operand)), str(c.type(weights_operand)));
  const int64_t groups = offset_groups_of(c);
  const Dim channels = c.dims(x_operand)[1];
  c.require(!channels.is_constant() || channels.constant() % groups == 0, "{} input channels do not divide into {} offset groups", channels.str(), groups);
  const Dim taps = product(kernel_of(c.dims(weights_operand))) * groups;
  check_per_window(c, offset_operand, "offset", taps * (c.rank(x_operand) - 2), dims);
  if (c.has(mask_operand)) check_per_window(c, mask_operand, "mask", taps, dims);
  return {{c.dtype(x_operand), dims}};
}

/// Extents (offset group, kernel…), and how a [n, group·kernel…(·last), positions…] operand is seen over n, group, kernel…, (last,) positions….
struct WindowTaps {
  Dims split;

  Map view(const Dims& operand, std::optional<int> axes) const {
    Dims dims = {operand[0]};
    dims.insert(dims.end(), split.begin(), split.end());
    if (axes) dims.push_back(*axes);
    dims.insert(dims.end(), operand.begin() + 2, operand.end());
    return Map::identity(operand).reshaped(std::span<const Dim>(dims));
  }
};

/// Tables over [n, offset group, kernel…, positions…, tap]: where the window's elements lie after their offsets.
TapTables tables_of(Lowering& l, const Windows& w, const WindowTaps& taps, int axis) {
  const Type offset = l.in_type(offset_operand);
  const int spatial = w.rank;
  const size_t d = static_cast<size_t>(axis);
  const Map view = taps.view(offset.dims, spatial).frozen(2 + spatial, axis).inserted(2 + 2 * spatial, 2);
  Dims space;
  for (int k = 0; k < view.rank_in(); ++k) space.push_back(view.extent_in(k));
  return emit_taps(l, space, [&](NestBuilder& n) {
    const DType dtype = sampling_dtype(offset.dtype);
    const Expr regular = n.index(2 + spatial + axis) * n.size(w.strides[d]) + n.index(2 + axis) * n.size(w.dilations[d]) - n.size(w.begin[d]);
    const Expr moved = n.cast(n.load(l.in(offset_operand), offset.dtype, view), dtype);
    return linear_tap(n, n.cast(regular, dtype) + moved, n.index(2 + 2 * spatial));
  });
}

/// columns[n, c, k…, o…]: the element of x under every tap of every window, times the mask.
TensorId emit_columns(Lowering& l, const Windows& w) {
  const Type x = l.in_type(x_operand), out = l.out_type();
  const int64_t groups = offset_groups_of(l.context());
  const int spatial = w.rank, rank = 2 + 2 * spatial;
  WindowTaps taps{{groups}};
  taps.split.insert(taps.split.end(), w.kernel.begin(), w.kernel.end());
  std::vector<TapTables> tables;
  for (int axis = 0; axis < spatial; ++axis) tables.push_back(tables_of(l, w, taps, axis));

  Dims dims = {x.dims[0], x.dims[1]};
  dims.insert(dims.end(), w.kernel.begin(), w.kernel.end());
  dims.insert(dims.end(), out.dims.begin() + 2, out.dims.end());
  Dims space = dims;
  space.insert(space.end(), static_cast<size_t>(spatial), Dim(2));
  NestBuilder n(space, spatial);
  const Expr group = groups == 1 ? n.constant_int(DType::i64, 0) : n.binary(pattern::ExprOp::floor_div, n.index(1), n.size(x.dims[1] / groups));
  std::vector<Expr> at = {n.index(0), group};
  for (int d = 2; d < rank; ++d) at.push_back(n.index(d));
  std::vector<SampledAxis> axes;
  for (int axis = 0; axis < spatial; ++axis) {
    axes.push_back({tables[static_cast<size_t>(axis)], at});
    axes.back().at.push_back(n.index(rank + axis));
  }
  const DType wide = sampling_dtype(out.dtype);
  Expr value = n.reduce(ReduceOp::sum, weighted_element(l, n, l.in(x_operand), wide, {n.index(0), n.index(1)}, axes, Outside::zero), wide);
  if (l.has(mask_operand)) {
    Expr tap = group;
    for (int d = 0; d < spatial; ++d) tap = tap * n.size(w.kernel[static_cast<size_t>(d)]) + n.index(2 + d);
    std::vector<Expr> place = {n.index(0), tap};
    for (int d = 0; d < spatial; ++d) place.push_back(n.index(2 + spatial + d));
    value = value * n.cast(n.load_at(l.in(mask_operand), l.in_type(mask_operand), place), wide);
  }
  const TensorId columns = l.temporary({wide, dims}, "columns");
  n.store(columns, value);
  l.emit(n);
  return columns;
}

void lower_deform_conv(Lowering& l) {
  const Windows w = windows_of(l.context(), kernel_of(l.in_type(weights_operand).dims));
  const TensorId columns = emit_columns(l, w);
  std::vector<int> order = {0, 1};  // n, c, (o, k)…
  for (int axis = 0; axis < w.rank; ++axis) order.insert(order.end(), {2 + w.rank + axis, 2 + axis});
  emit_convolution(l, columns, Map::identity(l.program.tensor(columns).type.dims).transposed(std::span<const int>(order)), bias_operand);
}

constexpr OpDef ops[] = {{"deform_conv", 3, 5, infer_deform_conv, lower_deform_conv}};

}  // namespace

std::span<const OpDef> deform_conv_ops() { return ops; }

}  // namespace tilewright
