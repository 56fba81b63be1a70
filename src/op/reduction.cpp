#include <algorithm>
#include <set>

#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::Map;
using pattern::NestBuilder;
using pattern::ReduceOp;

std::set<int64_t> axes_of(const InferContext& c) {
  std::set<int64_t> axes;
  for (const int64_t axis : c.integers("axes")) {
    c.require(axis >= 0 && axis < c.rank(0), "axis {} is outside of {}", axis, str(c.dims(0)));
    c.require(axes.insert(axis).second, "axis {} is listed twice", axis);
  }
  return axes;
}

Dims reduced_dims(const InferContext& c, const std::set<int64_t>& axes) {
  Dims dims;
  for (int64_t axis = 0; axis < c.rank(0); ++axis) {
    if (!axes.count(axis))
      dims.push_back(c.dims(0)[static_cast<size_t>(axis)]);
    else if (c.integer_or("keep_dims", 1) != 0)
      dims.push_back(1);
  }
  return dims;
}

/// The operand over kept axes, then reduced ones; and where the kept coordinates go in the result.
struct Split {
  Dims space;
  Map load, store;
};

Split split(const Dims& dims, const std::set<int64_t>& axes, const Dims& result) {
  Split s;
  std::vector<int> order;
  Dims kept;
  for (int axis = 0; axis < static_cast<int>(dims.size()); ++axis)
    if (!axes.count(axis)) order.push_back(axis), kept.push_back(dims[static_cast<size_t>(axis)]);
  for (const int64_t axis : axes) order.push_back(static_cast<int>(axis));
  for (const int axis : order) s.space.push_back(dims[static_cast<size_t>(axis)]);
  s.load = Map::identity(dims).transposed(std::span<const int>(order));
  // Kept dims of extent 1 stand where axes were reduced: freezing them leaves the kept coordinates.
  s.store = Map::identity(result);
  if (result.size() != kept.size())
    for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) s.store = s.store.frozen(static_cast<int>(*axis), 0);
  return s;
}

DType accumulator_of(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16 ? DType::f32 : dtype; }

std::vector<Type> infer_reduce(const InferContext& c) {
  const bool orders = c.node().op == "reduce_max" || c.node().op == "reduce_min";
  c.require(c.dtype(0) != DType::boolean || orders, "operand is bool; only reduce_min and reduce_max take it");
  return {{c.dtype(0), reduced_dims(c, axes_of(c))}};
}

void lower_reduce(Lowering& l) {
  const InferContext c = l.context();
  const std::set<int64_t> axes = axes_of(c);
  const Type in = l.in_type(0), out = l.out_type();
  const Split s = split(in.dims, axes, out.dims);
  NestBuilder n(s.space, static_cast<int>(axes.size()));
  const Expr x = n.load(l.in(0), in.dtype, s.load);
  const std::string& op = l.node.op;
  const bool sums = op == "reduce_sum" || op == "reduce_mean";
  const ReduceOp how = sums ? ReduceOp::sum : op == "reduce_product" ? ReduceOp::product : op == "reduce_min" ? ReduceOp::min : ReduceOp::max;
  const DType wide = sums || how == ReduceOp::product ? accumulator_of(in.dtype) : in.dtype;
  Expr y = n.reduce(how, n.cast(x, wide), wide);
  if (op == "reduce_mean") {
    Dim count = 1;
    for (const int64_t axis : axes) count *= in.dims[static_cast<size_t>(axis)];
    y = y / n.cast(n.size(count), wide);
  }
  n.store(l.out(), s.store, n.cast(y, out.dtype));
  l.emit(n);
}

std::vector<Type> infer_arg(const InferContext& c) {
  const int64_t axis = c.integer("axis");
  c.require(axis >= 0 && axis < c.rank(0), "axis {} is outside of {}", axis, str(c.dims(0)));
  c.require(c.dims(0)[static_cast<size_t>(axis)] != Dim(0), "axis {} of {} is empty", axis, str(c.dims(0)));
  return {{DType::i64, reduced_dims(c, {axis})}};
}

void lower_arg(Lowering& l) {
  const InferContext c = l.context();
  const Type in = l.in_type(0);
  const Split s = split(in.dims, {c.integer("axis")}, l.out_type().dims);
  NestBuilder n(s.space, 1);
  const bool last = c.integer_or("last", 0) != 0, smallest = l.node.op == "arg_min";
  const ReduceOp how = smallest ? (last ? ReduceOp::arg_min_last : ReduceOp::arg_min) : (last ? ReduceOp::arg_max_last : ReduceOp::arg_max);
  n.store(l.out(), s.store, n.reduce(how, n.load(l.in(0), in.dtype, s.load), DType::i64));
  l.emit(n);
}

constexpr OpDef ops[] = {
    {"arg_max", 1, 1, infer_arg, lower_arg},           {"arg_min", 1, 1, infer_arg, lower_arg},          {"reduce_max", 1, 1, infer_reduce, lower_reduce},
    {"reduce_mean", 1, 1, infer_reduce, lower_reduce}, {"reduce_min", 1, 1, infer_reduce, lower_reduce}, {"reduce_product", 1, 1, infer_reduce, lower_reduce},
    {"reduce_sum", 1, 1, infer_reduce, lower_reduce},
};

}  // namespace

std::span<const OpDef> reduction_ops() { return ops; }

}  // namespace tilewright
