#include "op/convolution.h"
#include "op/sampling.h"
#include "op/tables.h"
#include "op/windows.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::Map;
using pattern::NestBuilder;
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

/// The offset over n, offset group, kernel…, spatial axis, positions….
Map offset_view(const Dims& offset, const Windows& w, const Dim& groups) {
  Dims dims = {offset[0], groups};
  dims.insert(dims.end(), w.kernel.begin(), w.kernel.end());
  dims.push_back(w.rank);
  dims.insert(dims.end(), offset.begin() + 2, offset.end());
  return Map::identity(offset).reshaped(std::span<const Dim>(dims));
}

/// Tables over [tap, n, offset group, kernel…, positions…]: where the window's elements lie after their offsets.
TapTables tables_of(Lowering& l, const Windows& w, int64_t groups, int axis) {
  const Type offset = l.in_type(offset_operand);
  const int spatial = w.rank;
  const size_t d = static_cast<size_t>(axis);
  const Map view = offset_view(offset.dims, w, groups).frozen(2 + spatial, axis);
  Dims places;
  for (int k = 0; k < view.rank_in(); ++k) places.push_back(view.extent_in(k));
  return emit_taps(l, 2, places, [&](NestBuilder& n) {
    const DType dtype = sampling_dtype(offset.dtype);
    const Expr regular = n.index(3 + spatial + axis) * n.size(w.strides[d]) + n.index(3 + axis) * n.size(w.dilations[d]) - n.size(w.begin[d]);
    const Expr moved = n.cast(n.load(l.in(offset_operand), offset.dtype, view.inserted(0, 2)), dtype);
    return linear_tap(n, n.cast(regular, dtype) + moved, n.index(0));
  });
}

/// columns[n, c, k…, o…]: the element of x under every tap of every window, times the mask.
TensorId emit_columns(Lowering& l, const Windows& w) {
  const Type x = l.in_type(x_operand), out = l.out_type();
  const int64_t groups = offset_groups_of(l.context());
  const int spatial = w.rank, rank = 2 + 2 * spatial;
  std::vector<TapTables> tables;
  for (int axis = 0; axis < spatial; ++axis) tables.push_back(tables_of(l, w, groups, axis));

  Dims dims = {x.dims[0], x.dims[1]};
  dims.insert(dims.end(), w.kernel.begin(), w.kernel.end());
  dims.insert(dims.end(), out.dims.begin() + 2, out.dims.end());
  NestBuilder n(dims);
  const Expr group = groups == 1 ? n.constant_int(DType::i64, 0) : n.binary(pattern::ExprOp::floor_div, n.index(1), n.size(x.dims[1] / groups));
  std::vector<Expr> at = {n.index(0), group};
  for (int d = 2; d < rank; ++d) at.push_back(n.index(d));
  std::vector<SampledAxis> axes;
  for (const TapTables& table : tables) axes.push_back({table, at});
  const DType wide = sampling_dtype(out.dtype);
  Expr value = combined_taps(l, n, l.in(x_operand), wide, {n.index(0), n.index(1)}, axes, Outside::zero);
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
