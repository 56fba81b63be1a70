#include <cmath>
#include <numbers>

#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::Map;
using pattern::NestBuilder;
using pattern::ReduceOp;
using pattern::TensorId;

/// A table of all factors becomes a constant up to this many elements (16 MiB of f32); beyond it the factors of one turn are looked up.
constexpr int64_t dense_limit = int64_t{1} << 22;

struct Transform {
  int axis;
  Dim length;
  bool inverse, onesided;
};

Transform transform_of(const InferContext& c) {
  c.require(c.rank(0) >= 2 && is_float(c.dtype(0)), "operand is {}; needs floats [..., n, 1 or 2]", str(c.type(0)));
  const Dim parts = c.dims(0).back();
  c.require(parts == Dim(1) || parts == Dim(2), "operand is {}; its last axis needs 1 element (real) or 2 (complex)", str(c.type(0)));
  const int64_t axis = c.integer("axis");
  c.require(axis >= 0 && axis + 1 < c.rank(0), "axis {} of {} cannot be transformed", axis, str(c.type(0)));
  const Dims length = c.sizes("length");
  c.require(length.size() == 1, "length has {} entries; needs 1", length.size());
  c.require(!length[0].is_constant() || length[0].constant() >= 1, "length is {}; needs at least 1", length[0].str());
  return {static_cast<int>(axis), length[0], c.integer_or("inverse", 0) != 0, c.integer_or("onesided", 0) != 0};
}

std::vector<Type> infer_dft(const InferContext& c) {
  const Transform t = transform_of(c);
  Type type = c.type(0);
  type.dims[static_cast<size_t>(t.axis)] = t.onesided ? t.length / Dim(2) + 1 : t.length;
  type.dims.back() = 2;
  return {type};
}

DType wide_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// What part `from` of element j adds to part `to` of frequency k, for `turns` = j·k mod length: of (re + i·im)·exp(∓2πi·turns/length), times `scale`.
double factor(const Transform& t, int64_t turns, int64_t from, int64_t to, double scale) {
  const double angle = (t.inverse ? 2 : -2) * std::numbers::pi * static_cast<double>(turns) / static_cast<double>(t.length.constant());
  if (from == to) return std::cos(angle) * scale;
  return (from == 0 ? std::sin(angle) : -std::sin(angle)) * scale;
}

/// All factors, [element, part, frequency, part of the result].
TensorId dense_table(Lowering& l, const Transform& t, int64_t elements, int64_t parts, int64_t frequencies, DType dtype) {
  auto table = std::make_shared<Tensor>(dtype, std::vector<int64_t>{elements, parts, frequencies, 2});
  const int64_t length = t.length.constant();
  const double scale = t.inverse ? 1.0 / static_cast<double>(length) : 1.0;
  int64_t at = 0;
  for (int64_t j = 0; j < elements; ++j)
    for (int64_t from = 0; from < parts; ++from)
      for (int64_t k = 0; k < frequencies; ++k)
        for (int64_t to = 0; to < 2; ++to) table->set_float(at++, factor(t, j * k % length, from, to, scale));
  return l.program.add_tensor({dtype, {elements, parts, frequencies, 2}}, fmt::format("{}.factors#{}", l.node.name, l.program.tensors.size()), table);
}

/// Factors of one turn, [j·k mod length, part, part of the result], computed when the program runs.
TensorId turn_table(Lowering& l, const Transform& t, const Dim& parts, DType dtype) {
  const Type type{dtype, {t.length, parts, 2}};
  const TensorId table = l.temporary(type, "turn");
  NestBuilder n(type.dims);
  const Expr length = n.cast(n.size(t.length), DType::f64);
  const Expr angle = n.cast(n.index(0), DType::f64) * ((t.inverse ? 2 : -2) * std::numbers::pi) / length;
  const Expr cosine = n.unary(ExprOp::cos, angle), sine = n.unary(ExprOp::sin, angle);
  const Expr crossed = n.select(n.binary(ExprOp::less, n.index(1), n.index(2)), sine, -sine);
  Expr value = n.select(n.binary(ExprOp::equal, n.index(1), n.index(2)), cosine, crossed);
  if (t.inverse) value = value / length;
  n.store(table, n.cast(value, dtype));
  l.emit(n);
  return table;
}

/// out[…, k, …, q] = Σ over j, p of x[…, j, …, p] · factor[j·k, p, q]; elements beyond the length are cut, missing ones are 0 and add nothing.
void lower_dft(Lowering& l) {
  const InferContext c = l.context();
  const Transform t = transform_of(c);
  const Type x = l.in_type(0), out = l.out_type();
  const size_t axis = static_cast<size_t>(t.axis);
  const int rank = static_cast<int>(out.dims.size());
  const DType wide = wide_of(out.dtype);
  const Dim elements = min(x.dims[axis], t.length), parts = x.dims.back(), frequencies = out.dims[axis];

  TensorId table = -1;
  if (elements.is_constant() && frequencies.is_constant() && t.length.is_constant()) {
    const int64_t j = elements.constant(), p = parts.constant(), k = frequencies.constant();
    if (j <= dense_limit && k <= dense_limit && j * k <= dense_limit / (2 * p)) table = dense_table(l, t, j, p, k, wide);
  }
  const bool dense = table >= 0;
  if (!dense) table = turn_table(l, t, parts, wide);

  Dims space = out.dims;
  space.insert(space.end(), {elements, parts});
  Map::Extents extents;
  for (const Dim& dim : space) extents.push_back(dim);
  NestBuilder n(space, 2);
  Map::Outputs place;
  for (int d = 0; d + 1 < rank; ++d) place.push_back(d == t.axis ? rank : d);
  place.push_back(rank + 1);
  const Expr value = n.cast(n.load(l.in(0), x.dtype, Map::from_parts(extents, {}, {}, {}, place)), wide);
  Expr weight;
  if (dense) {
    Map::Outputs entry;
    for (const int slot : {rank, rank + 1, t.axis, rank - 1}) entry.push_back(slot);
    weight = n.load(table, wide, Map::from_parts(extents, {}, {}, {}, entry));
  } else {
    const Expr turns = n.binary(ExprOp::mod, n.index(rank) * n.index(t.axis), n.size(t.length));
    weight = n.load_at(table, l.program.tensor(table).type, {turns, n.index(rank + 1), n.index(rank - 1)});
  }
  n.store(l.out(), n.cast(n.reduce(ReduceOp::sum, value * weight, wide), out.dtype));
  l.emit(n);
}

constexpr OpDef ops[] = {{"dft", 1, 1, infer_dft, lower_dft}};

}  // namespace

std::span<const OpDef> dft_ops() { return ops; }

}  // namespace tilewright
