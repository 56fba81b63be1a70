#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::Map;
using pattern::NestBuilder;
using pattern::ReduceOp;

/// numpy.matmul's axes: batch axes broadcast, a vector operand gains an axis that the result does not have.
struct Shapes {
  Dims batch;
  Dim m, n, k;
  bool row_vector, column_vector;  ///< a is [k]; b is [k]
};

Shapes shapes_of(const InferContext& c) {
  Dims a = c.dims(0), b = c.dims(1);
  c.require(!a.empty() && !b.empty(), "operands are {} and {}; needs at least one axis each", str(a), str(b));
  Shapes s;
  s.row_vector = a.size() == 1;
  s.column_vector = b.size() == 1;
  if (s.row_vector) a.insert(a.begin(), Dim(1));
  if (s.column_vector) b.push_back(1);
  s.m = a[a.size() - 2];
  s.k = a.back();
  s.n = b.back();
  c.require_equal(a.back(), b[b.size() - 2], fmt::format("inner sizes of a {} and b {}: a[-1] and b[-2]", str(c.dims(0)), str(c.dims(1))));
  s.batch = broadcast_dims(c, Dims(a.begin(), a.end() - 2), Dims(b.begin(), b.end() - 2));
  return s;
}

std::vector<Type> infer_matmul(const InferContext& c) {
  const bool widened = c.node().attributes.count("dtype") > 0;
  c.require(widened || c.dtype(0) == c.dtype(1), "operands are {} and {}; dtypes must agree", str(c.type(0)), str(c.type(1)));
  c.require(c.dtype(0) != DType::boolean, "operands are bool");
  const Shapes s = shapes_of(c);
  Dims dims = s.batch;
  if (!s.row_vector) dims.push_back(s.m);
  if (!s.column_vector) dims.push_back(s.n);
  return {{widened ? c.dtype_attribute("dtype") : c.dtype(0), dims}};
}

/// A view of an operand over (batch…, m, n, k).
Map operand_map(const Dims& dims, const Shapes& s, bool left) {
  Dims full = dims;
  if (left && s.row_vector) full.insert(full.begin(), Dim(1));
  if (!left && s.column_vector) full.push_back(1);
  Map map = Map::identity(dims);
  if (full.size() != dims.size()) map = map.inserted(left ? 0 : 1, 1);
  Dims target = s.batch;
  const int axes = static_cast<int>(s.batch.size());
  if (left)
    target.insert(target.end(), {s.m, s.k});
  else
    target.insert(target.end(), {s.k, s.n});
  const size_t lead = target.size() - static_cast<size_t>(map.rank_in());
  for (int axis = 0; axis + 2 < map.rank_in(); ++axis) {  // a run-time batch size that may be 1 repeats
    const Dim& size = map.extent_in(axis);
    if (!size.is_constant() && !(size == target[lead + static_cast<size_t>(axis)])) map = map.modulo(axis, target[lead + static_cast<size_t>(axis)]);
  }
  map = map.broadcast_to(std::span<const Dim>(target));
  if (left) return map.inserted(axes + 1, s.n);  // batch, m, (n), k
  std::vector<int> order;
  for (int axis = 0; axis < axes; ++axis) order.push_back(axis);
  order.insert(order.end(), {axes + 1, axes});
  return map.transposed(std::span<const int>(order)).inserted(axes, s.m);  // batch, (m), n, k
}

void lower_matmul(Lowering& l) {
  const InferContext c = l.context();
  const Shapes s = shapes_of(c);
  Dims space = s.batch;
  space.insert(space.end(), {s.m, s.n, s.k});
  const Type a = l.in_type(0), b = l.in_type(1), out = l.out_type();
  const DType wide = out.dtype == DType::f16 || out.dtype == DType::bf16 ? DType::f32 : out.dtype;
  NestBuilder n(space, 1);
  const Expr product =
      n.cast(n.load(l.in(0), a.dtype, operand_map(a.dims, s, true)), wide) * n.cast(n.load(l.in(1), b.dtype, operand_map(b.dims, s, false)), wide);
  Map store = Map::identity(out.dims);
  const int axes = static_cast<int>(s.batch.size());
  if (s.row_vector) store = store.inserted(axes, 1);
  if (s.column_vector) store = store.inserted(axes + 1, 1);
  n.store(l.out(), store, n.cast(n.reduce(ReduceOp::sum, product, wide), out.dtype));
  l.emit(n);
}

constexpr OpDef ops[] = {{"matmul", 2, 2, infer_matmul, lower_matmul}};

}  // namespace

std::span<const OpDef> contraction_ops() { return ops; }

}  // namespace tilewright
