#include <cmath>

#include "op/tables.h"
#include "op/windows.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::Map;
using pattern::NestBuilder;
using pattern::ReduceOp;

Windows pool_windows(const InferContext& c) {
  c.require(c.rank(0) >= 3, "input is {}; needs [n,c,spatial…]", str(c.type(0)));
  const Dims kernel = c.sizes("kernel");
  c.require(static_cast<int>(kernel.size()) == c.rank(0) - 2, "kernel has {} axes, input is {}", kernel.size(), str(c.type(0)));
  return windows_of(c, kernel);
}

Dims pooled_dims(const InferContext& c) {
  const Windows w = pool_windows(c);
  Dims dims(c.dims(0).begin(), c.dims(0).begin() + 2);
  for (int axis = 0; axis < w.rank; ++axis) dims.push_back(w.positions(c, c.dims(0)[static_cast<size_t>(axis) + 2], axis, c.integer_or("ceil_mode", 0) != 0));
  return dims;
}

std::vector<Type> infer_max_pool(const InferContext& c) {
  const Dims dims = pooled_dims(c);
  return {{c.dtype(0), dims}, {DType::i64, dims}};
}

/// The operand over (n, c, o…, k…).
Map pooled_view(const Windows& w, const Dims& operand, const Dims& result) {
  const Map view = w.view(operand, Dims(result.begin() + 2, result.end()));
  std::vector<int> order = {0, 1};
  for (int axis = 0; axis < w.rank; ++axis) order.push_back(2 + 2 * axis);
  for (int axis = 0; axis < w.rank; ++axis) order.push_back(3 + 2 * axis);
  return view.transposed(std::span<const int>(order));
}

Expr lowest(NestBuilder& n, DType dtype) {
  if (is_float(dtype)) return n.constant(dtype, -HUGE_VAL);
  if (!is_signed(dtype)) return n.constant_int(dtype, 0);
  return n.constant_int(dtype, dtype == DType::i64 ? INT64_MIN : -(int64_t{1} << (bits_of(dtype) - 1)));
}

Dims pool_space(const Windows& w, const Dims& result) {
  Dims space = result;
  space.insert(space.end(), w.kernel.begin(), w.kernel.end());
  return space;
}

void lower_max_pool(Lowering& l) {
  const InferContext c = l.context();
  const Windows w = pool_windows(c);
  const Type x = l.in_type(0), out = l.out_type();
  const Map view = pooled_view(w, x.dims, out.dims);
  for (const int result : {0, 1}) {  // values, and the places they come from: whichever nobody reads is dropped later
    NestBuilder n(pool_space(w, out.dims), w.rank);
    const Expr value = view.may_be_invalid() ? n.load(l.in(0), x.dtype, view, {}, lowest(n, x.dtype)) : n.load(l.in(0), x.dtype, view);
    if (result == 0) {
      n.store(l.out(0), n.reduce(ReduceOp::max, value, x.dtype));
      l.emit(n);
      continue;
    }
    // The tap's linear index, taken apart again, gives the element's place in the input.
    Expr tap = n.reduce(ReduceOp::arg_max, value, DType::i64);
    std::vector<Expr> place(static_cast<size_t>(w.rank), tap);
    for (size_t axis = static_cast<size_t>(w.rank); axis-- > 0;) {
      const Expr along = n.binary(ExprOp::mod, tap, n.size(w.kernel[axis]));
      tap = n.binary(ExprOp::floor_div, tap, n.size(w.kernel[axis]));
      place[axis] = n.index(static_cast<int>(axis) + 2) * n.size(w.strides[axis]) + along * n.size(w.dilations[axis]) - n.size(w.begin[axis]);
    }
    const bool column_major = c.integer_or("column_major", 0) != 0;
    Expr flat = n.index(0) * n.size(x.dims[1]) + n.index(1);
    Expr inner = n.constant_int(DType::i64, 0);
    for (int k = 0; k < w.rank; ++k) {
      const size_t axis = static_cast<size_t>(column_major ? w.rank - 1 - k : k);
      inner = inner * n.size(x.dims[axis + 2]) + place[axis];
    }
    n.store(l.out(1), flat * n.size(product(Dims(x.dims.begin() + 2, x.dims.end()))) + inner);
    l.emit(n);
  }
}

std::vector<Type> infer_average_pool(const InferContext& c) {
  c.require(is_float(c.dtype(0)), "input is {}; needs a float dtype", str(c.type(0)));
  return {{c.dtype(0), pooled_dims(c)}};
}

/// Taps of the window at `position` that count: inside the input, or inside input and padding.
Expr counted_taps(NestBuilder& n, const Windows& w, size_t axis, const Dim& size, bool include_pad) {
  const Dim low = include_pad ? Dim(0) : w.begin[axis], high = include_pad ? size + w.begin[axis] + w.end[axis] : size + w.begin[axis];
  const Expr start = n.index(static_cast<int>(axis) + 2) * n.size(w.strides[axis]);
  const Expr dilation = n.size(w.dilations[axis]), zero = n.constant_int(DType::i64, 0);
  // taps k in [0, kernel) with low <= start + k·dilation < high
  const auto ceil_div = [&](Expr a) { return -n.binary(ExprOp::floor_div, -a, dilation); };
  const Expr first = n.binary(ExprOp::max, zero, ceil_div(n.size(low) - start));
  const Expr end = n.binary(ExprOp::min, n.size(w.kernel[axis]), ceil_div(n.size(high) - start));
  return n.binary(ExprOp::max, zero, end - first);
}

void lower_average_pool(Lowering& l) {
  const InferContext c = l.context();
  const Windows w = pool_windows(c);
  const Type x = l.in_type(0), out = l.out_type();
  const Map view = pooled_view(w, x.dims, out.dims);
  const DType wide = x.dtype == DType::f64 ? DType::f64 : DType::f32;
  NestBuilder n(pool_space(w, out.dims), w.rank);
  const Expr value = view.may_be_invalid() ? n.load(l.in(0), x.dtype, view, {}, n.constant(x.dtype, 0)) : n.load(l.in(0), x.dtype, view);
  const Expr sum = n.reduce(ReduceOp::sum, n.cast(value, wide), wide);
  Expr count = n.constant_int(DType::i64, 1);
  bool whole = !view.may_be_invalid();
  if (whole) {
    count = n.size(product(w.kernel));
  } else {
    for (size_t axis = 0; axis < static_cast<size_t>(w.rank); ++axis)
      count = count * counted_taps(n, w, axis, x.dims[axis + 2], c.integer_or("include_pad", 0) != 0);
  }
  n.store(l.out(), n.cast(sum / n.cast(count, wide), out.dtype));
  l.emit(n);
}

constexpr OpDef ops[] = {{"average_pool", 1, 1, infer_average_pool, lower_average_pool}, {"max_pool", 1, 1, infer_max_pool, lower_max_pool}};

}  // namespace

std::span<const OpDef> pooling_ops() { return ops; }

}  // namespace tilewright
