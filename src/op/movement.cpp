#include <set>

#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::Map;
using pattern::NestBuilder;

/// The result is the operand seen through `map` (result coordinates → operand coordinates): no arithmetic, so scheduling fuses it away.
void emit_view(Lowering& l, int input, const Map& map, std::optional<Map> store = {}) {
  Dims space;
  for (int d = 0; d < map.rank_in(); ++d) space.push_back(map.extent_in(d));
  NestBuilder n(space);
  const Expr x = n.load(l.in(input), l.in_type(input).dtype, map);
  store ? n.store(l.out(), *store, x) : n.store(l.out(), x);
  l.emit(n);
}

std::vector<Type> infer_reshape(const InferContext& c) {
  const Dims to = c.sizes("dims");
  c.require_equal(product(c.dims(0)), product(to), fmt::format("elements of {} reshaped to {}", str(c.dims(0)), str(to)));
  return {{c.dtype(0), to}};
}

void lower_reshape(Lowering& l) { emit_view(l, 0, Map::identity(l.in_type(0).dims).reshaped(std::span<const Dim>(l.out_type().dims))); }

std::vector<Type> infer_transpose(const InferContext& c) {
  const auto permutation = c.integers("permutation");
  const std::set<int64_t> distinct(permutation.begin(), permutation.end());
  c.require(permutation.size() == c.dims(0).size() && distinct.size() == permutation.size() &&
                (distinct.empty() || (*distinct.begin() == 0 && *distinct.rbegin() == c.rank(0) - 1)),
            "permutation [{}] does not fit {}", fmt::join(permutation, ","), str(c.dims(0)));
  Dims dims;
  for (const int64_t axis : permutation) dims.push_back(c.dims(0)[static_cast<size_t>(axis)]);
  return {{c.dtype(0), dims}};
}

void lower_transpose(Lowering& l) {
  const auto permutation = l.context().integers("permutation");
  const std::vector<int> axes(permutation.begin(), permutation.end());
  emit_view(l, 0, Map::identity(l.in_type(0).dims).transposed(std::span<const int>(axes)));
}

std::vector<Type> infer_broadcast(const InferContext& c) {
  const Dims to = c.sizes("dims");
  c.require(to.size() >= c.dims(0).size(), "{} has more axes than {}", str(c.dims(0)), str(to));
  for (size_t i = 0; i < c.dims(0).size(); ++i) {
    const Dim &from = c.dims(0)[c.dims(0).size() - 1 - i], &goal = to[to.size() - 1 - i];
    if (from == Dim(1)) continue;
    if (from.is_constant() && goal.is_constant())
      c.require_equal(from, goal, fmt::format("{} broadcast to {}", str(c.dims(0)), str(to)));
    else if (from != goal)
      c.require_broadcast(from, goal, fmt::format("{} broadcast to {}", str(c.dims(0)), str(to)));
  }
  return {{c.dtype(0), to}};
}

void lower_broadcast(Lowering& l) {
  NestBuilder n(l.out_type().dims);
  n.store(l.out(), n.load_broadcast(l.in(0), l.in_type(0)));
  l.emit(n);
}

std::vector<Type> infer_slice(const InferContext& c) {
  const Dims starts = c.sizes("starts"), counts = c.sizes("counts");
  const auto steps = c.integers("steps");
  c.require(starts.size() == c.dims(0).size() && counts.size() == starts.size() && steps.size() == starts.size(),
            "wants one start, count and step for each axis of {}", str(c.dims(0)));
  for (size_t axis = 0; axis < starts.size(); ++axis) {
    const Dim& size = c.dims(0)[axis];
    c.require(steps[axis] != 0, "step of axis {} is 0", axis);
    if (!starts[axis].is_constant() || !counts[axis].is_constant() || !size.is_constant()) continue;
    const int64_t first = starts[axis].constant(), count = counts[axis].constant();
    c.require(count >= 0, "count of axis {} is {}", axis, count);
    if (count == 0) continue;
    const Dim last = starts[axis] + (counts[axis] - 1) * Dim(steps[axis]);
    c.require(first >= 0 && first < size.constant() && last.constant() >= 0 && last.constant() < size.constant(),
              "axis {} of {}: elements {} to {} are outside", axis, str(c.dims(0)), first, last.constant());
  }
  return {{c.dtype(0), counts}};
}

void lower_slice(Lowering& l) {
  const InferContext c = l.context();
  const Dims starts = c.sizes("starts"), counts = c.sizes("counts");
  const auto steps = c.integers("steps");
  Map map = Map::identity(l.in_type(0).dims);
  for (size_t axis = 0; axis < starts.size(); ++axis)
    if (!(starts[axis] == Dim(0) && steps[axis] == 1 && counts[axis] == l.in_type(0).dims[axis]))
      map = map.sliced(static_cast<int>(axis), starts[axis], Dim(steps[axis]), counts[axis]);
  emit_view(l, 0, map);
}

std::vector<Type> infer_concat(const InferContext& c) {
  const int64_t axis = c.integer("axis");
  c.require(axis >= 0 && axis < c.rank(0), "axis {} is outside of {}", axis, str(c.dims(0)));
  Type result = c.type(0);
  for (int i = 1; i < c.input_count(); ++i) {
    c.require(c.dtype(i) == result.dtype && c.rank(i) == c.rank(0), "operands are {} and {}; dtype and rank must agree", str(c.type(0)), str(c.type(i)));
    for (size_t d = 0; d < result.dims.size(); ++d) {
      if (d == static_cast<size_t>(axis))
        result.dims[d] += c.dims(i)[d];
      else
        c.require_equal(result.dims[d], c.dims(i)[d], fmt::format("axis {} of {} and {} joined along {}", d, str(c.dims(0)), str(c.dims(i)), axis));
    }
  }
  return {result};
}

/// One nest an operand, each writing its slice of the result.
void lower_concat(Lowering& l) {
  const int axis = static_cast<int>(l.context().integer("axis"));
  Dim start = 0;
  for (int i = 0; i < static_cast<int>(l.inputs.size()); ++i) {
    const Dims dims = l.in_type(i).dims;
    const Dim& count = dims[static_cast<size_t>(axis)];
    emit_view(l, i, Map::identity(dims), Map::identity(l.out_type().dims).sliced(axis, start, 1, count));
    start += count;
  }
}

std::vector<Type> infer_pad(const InferContext& c) {
  const Dims before = c.sizes("before"), after = c.sizes("after");
  c.require(before.size() == c.dims(0).size() && after.size() == before.size(), "wants pads for each axis of {}", str(c.dims(0)));
  const std::string mode = c.text_or("mode", "constant");
  c.require(mode == "constant" || mode == "edge" || mode == "reflect" || mode == "wrap", "mode '{}' is unknown", mode);
  if (c.has(1)) c.require(c.dtype(1) == c.dtype(0) && product(c.dims(1)) == Dim(1), "the padding value is {}; needs one {}", str(c.type(1)), name(c.dtype(0)));
  Dims dims = c.dims(0);
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    dims[axis] = dims[axis] + before[axis] + after[axis];
    c.require(!dims[axis].is_constant() || dims[axis].constant() >= 0, "padding {} by {} and {} leaves a negative size", str(c.dims(0)), str(before),
              str(after));
    if (mode != "constant" && c.dims(0)[axis] == Dim(0)) c.require(dims[axis] == Dim(0), "an empty axis cannot be padded by '{}'", mode);
  }
  return {{c.dtype(0), dims}};
}

/// Coordinate of the element that position `i` (0 is the first original element) shows in the given mode.
Expr source_coordinate(NestBuilder& n, Expr i, const Dim& size, const std::string& mode) {
  const Expr zero = n.constant_int(DType::i64, 0), length = n.size(size), last = n.size(size - 1);
  if (mode == "edge") return n.binary(ExprOp::max, zero, n.binary(ExprOp::min, i, last));
  if (mode == "wrap") return n.binary(ExprOp::mod, i, length);
  // reflect: a walk to and fro with period 2(size-1)
  const Expr period = n.binary(ExprOp::max, n.size(size * 2 - 2), n.constant_int(DType::i64, 1));
  const Expr at = n.binary(ExprOp::mod, i, period);
  return n.binary(ExprOp::min, at, n.binary(ExprOp::sub, period, at));
}

void lower_pad(Lowering& l) {
  const InferContext c = l.context();
  const Dims before = c.sizes("before"), after = c.sizes("after");
  const std::string mode = c.text_or("mode", "constant");
  const Type in = l.in_type(0);
  NestBuilder n(l.out_type().dims);
  if (mode == "constant") {
    Map map = Map::identity(in.dims);
    for (size_t axis = 0; axis < before.size(); ++axis)
      if (!(before[axis] == Dim(0) && after[axis] == Dim(0))) map = map.padded(static_cast<int>(axis), before[axis], after[axis]);
    const Expr fill = l.has(1) ? n.load(l.in(1), in.dtype,
                                        [&] {
                                          Map::Extents extents;
                                          for (const Dim& dim : l.out_type().dims) extents.push_back(dim);
                                          Map::Transforms transforms;
                                          Map::Outputs outputs;
                                          for (size_t d = 0; d < l.in_type(1).dims.size(); ++d) {
                                            transforms.push_back({});
                                            outputs.push_back(static_cast<int>(extents.size()) + static_cast<int>(d));
                                          }
                                          return Map::from_parts(extents, transforms, {}, {}, outputs);
                                        }())
                               : n.constant(in.dtype, 0);
    n.store(l.out(), map.may_be_invalid() ? n.load(l.in(0), in.dtype, map, {}, fill) : n.load(l.in(0), in.dtype, map));
  } else {
    std::vector<Expr> coordinates;
    for (size_t axis = 0; axis < before.size(); ++axis) {
      const Expr i = n.index(static_cast<int>(axis));
      const bool untouched = before[axis] == Dim(0) && after[axis] == Dim(0);
      coordinates.push_back(untouched ? i : source_coordinate(n, n.binary(ExprOp::sub, i, n.size(before[axis])), in.dims[axis], mode));
    }
    n.store(l.out(), n.load_at(l.in(0), in, coordinates));
  }
  l.emit(n);
}

std::vector<Type> infer_iota(const InferContext& c) {
  const Dims dims = c.sizes("dims");
  const int64_t axis = c.integer("axis");
  c.require(axis >= 0 && axis < static_cast<int64_t>(dims.size()), "axis {} is outside of {}", axis, str(dims));
  return {{c.dtype_attribute("dtype"), dims}};
}

void lower_iota(Lowering& l) {
  NestBuilder n(l.out_type().dims);
  n.store(l.out(), n.cast(n.index(static_cast<int>(l.context().integer("axis"))), l.out_type().dtype, ExprOp::cast_wrap));
  l.emit(n);
}

std::vector<Type> infer_dims(const InferContext& c) { return {{DType::i64, {Dim(static_cast<int64_t>(c.sizes("sizes").size()))}}}; }

/// A handful of scalars: one store an element.
void lower_dims(Lowering& l) {
  const Dims sizes = l.context().sizes("sizes");
  for (size_t i = 0; i < sizes.size(); ++i) {
    NestBuilder n(Dims{Dim(1)});
    n.store(l.out(), Map::identity(l.out_type().dims).sliced(0, static_cast<int64_t>(i), 1, 1), n.size(sizes[i]));
    l.emit(n);
  }
}

constexpr OpDef ops[] = {
    {"broadcast", 1, 1, infer_broadcast, lower_broadcast},
    {"concat", 1, -1, infer_concat, lower_concat},
    {"dims", 0, 0, infer_dims, lower_dims},
    {"iota", 0, 0, infer_iota, lower_iota},
    {"pad", 1, 2, infer_pad, lower_pad},
    {"reshape", 1, 1, infer_reshape, lower_reshape},
    {"slice", 1, 1, infer_slice, lower_slice},
    {"transpose", 1, 1, infer_transpose, lower_transpose},
};

}  // namespace

std::span<const OpDef> movement_ops() { return ops; }

}  // namespace tilewright
