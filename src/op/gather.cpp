#include "op/index.h"
#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::Map;
using pattern::NestBuilder;

void check_index(const InferContext& c, int input) {
  c.require(c.dtype(input) == DType::i64 || c.dtype(input) == DType::i32, "indices are {}; needs i64 or i32", str(c.type(input)));
}

/// The operand seen through the coordinates `axes` of the space, in order.
Map through(const Dims& space, const std::vector<int>& axes) {
  Map::Extents extents;
  for (const Dim& dim : space) extents.push_back(dim);
  Map::Outputs outputs;
  for (const int axis : axes) outputs.push_back(axis);
  return Map::from_parts(extents, {}, {}, {}, outputs);
}

std::vector<Type> infer_gather(const InferContext& c) {
  const int64_t axis = c.integer("axis");
  c.require(axis >= 0 && axis < c.rank(0), "axis {} is outside of {}", axis, str(c.dims(0)));
  check_index(c, 1);
  Dims dims(c.dims(0).begin(), c.dims(0).begin() + axis);
  dims.insert(dims.end(), c.dims(1).begin(), c.dims(1).end());
  dims.insert(dims.end(), c.dims(0).begin() + axis + 1, c.dims(0).end());
  return {{c.dtype(0), dims}};
}

void lower_gather(Lowering& l) {
  const int axis = static_cast<int>(l.context().integer("axis"));
  const Type x = l.in_type(0), indices = l.in_type(1);
  const int inserted = static_cast<int>(indices.dims.size());
  NestBuilder n(l.out_type().dims);
  std::vector<int> index_axes;
  for (int d = 0; d < inserted; ++d) index_axes.push_back(axis + d);
  const Expr index = wrapped(n, n.load(l.in(1), indices.dtype, through(n.space(), index_axes)), x.dims[static_cast<size_t>(axis)]);
  std::vector<Expr> coordinates;
  for (int d = 0; d < static_cast<int>(x.dims.size()); ++d) coordinates.push_back(d == axis ? index : n.index(d < axis ? d : d - 1 + inserted));
  n.store(l.out(), n.load_at(l.in(0), x, coordinates));
  l.emit(n);
}

std::vector<Type> infer_gather_elements(const InferContext& c) {
  const int64_t axis = c.integer("axis");
  check_index(c, 1);
  c.require(axis >= 0 && axis < c.rank(0) && c.rank(0) == c.rank(1), "operands are {} and {} with axis {}; ranks must agree", str(c.dims(0)), str(c.dims(1)),
            axis);
  return {{c.dtype(0), c.dims(1)}};
}

void lower_gather_elements(Lowering& l) {
  const int axis = static_cast<int>(l.context().integer("axis"));
  const Type x = l.in_type(0), indices = l.in_type(1);
  NestBuilder n(l.out_type().dims);
  const Expr index = wrapped(n, n.load(l.in(1), indices.dtype, Map::identity(indices.dims)), x.dims[static_cast<size_t>(axis)]);
  std::vector<Expr> coordinates;
  for (int d = 0; d < static_cast<int>(x.dims.size()); ++d) coordinates.push_back(d == axis ? index : n.index(d));
  n.store(l.out(), n.load_at(l.in(0), x, coordinates));
  l.emit(n);
}

std::vector<Type> infer_gather_nd(const InferContext& c) {
  const int64_t batch = c.integer_or("batch_dims", 0);
  check_index(c, 1);
  c.require(c.rank(1) >= 1 && c.dims(1).back().is_constant(), "indices are {}; the size of their last axis must be known", str(c.dims(1)));
  const int64_t depth = c.dims(1).back().constant();
  c.require(batch >= 0 && batch < c.rank(1) && batch <= c.rank(0) && depth <= c.rank(0) - batch, "{} batch axes and indices {} do not fit {}", batch,
            str(c.dims(1)), str(c.dims(0)));
  for (int64_t d = 0; d < batch; ++d) c.require_equal(c.dims(0)[static_cast<size_t>(d)], c.dims(1)[static_cast<size_t>(d)], "batch axes");
  Dims dims(c.dims(1).begin(), c.dims(1).end() - 1);
  dims.insert(dims.end(), c.dims(0).begin() + batch + depth, c.dims(0).end());
  return {{c.dtype(0), dims}};
}

void lower_gather_nd(Lowering& l) {
  const int batch = static_cast<int>(l.context().integer_or("batch_dims", 0));
  const Type x = l.in_type(0), indices = l.in_type(1);
  const int depth = static_cast<int>(indices.dims.back().constant()), index_rank = static_cast<int>(indices.dims.size()) - 1;
  NestBuilder n(l.out_type().dims);
  std::vector<int> index_axes;
  for (int d = 0; d < index_rank; ++d) index_axes.push_back(d);
  std::vector<Expr> coordinates;
  for (int d = 0; d < static_cast<int>(x.dims.size()); ++d) {
    if (d < batch) {
      coordinates.push_back(n.index(d));
    } else if (d < batch + depth) {
      std::vector<Expr> at;
      for (const int axis : index_axes) at.push_back(n.index(axis));
      at.push_back(n.constant_int(DType::i64, d - batch));
      coordinates.push_back(wrapped(n, n.load_at(l.in(1), indices, at), x.dims[static_cast<size_t>(d)]));
    } else {
      coordinates.push_back(n.index(index_rank + d - batch - depth));
    }
  }
  n.store(l.out(), n.load_at(l.in(0), x, coordinates));
  l.emit(n);
}

constexpr OpDef ops[] = {{"gather", 2, 2, infer_gather, lower_gather},
                         {"gather_elements", 2, 2, infer_gather_elements, lower_gather_elements},
                         {"gather_nd", 2, 2, infer_gather_nd, lower_gather_nd}};

}  // namespace

std::span<const OpDef> gather_ops() { return ops; }

}  // namespace tilewright
