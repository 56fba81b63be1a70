#include "op/sampling.h"

namespace tilewright {

using pattern::Expr;
using pattern::ExprOp;
using pattern::NestBuilder;
using pattern::TensorId;

namespace {

/// The whole element before a place and the way from it. Places beyond 2^40 are taken back to it: indices then stay far from overflow, and
/// an infinite place has a fraction.
struct Split {
  Expr element, fraction;
};

Split split(NestBuilder& n, Expr place) {
  const Expr limit = n.constant(place.dtype(), 0x1p40);
  const Expr near = n.binary(ExprOp::max, -limit, n.binary(ExprOp::min, limit, place));
  const Expr below = n.unary(ExprOp::floor, near);
  return {n.cast(below, DType::i64), near - below};
}

}  // namespace

TapTables emit_taps(Lowering& l, const Dims& space, const std::function<Tap(NestBuilder&)>& tap) {
  NestBuilder n(space);
  const Tap entry = tap(n);
  TapTables tables;
  tables.index = l.temporary({DType::i64, space}, "index");
  n.store(tables.index, entry.index);
  if (entry.weight) {
    tables.weight = l.temporary({entry.weight->dtype(), space}, "weight");
    n.store(tables.weight, *entry.weight);
  }
  l.emit(n);
  return tables;
}

Tap linear_tap(NestBuilder& n, Expr place, Expr tap) {
  const Split at = split(n, place);
  const Expr first = n.binary(ExprOp::equal, tap, n.constant_int(DType::i64, 0));
  return {at.element + tap, n.select(first, 1.0 - at.fraction, at.fraction)};
}

Tap cubic_tap(NestBuilder& n, Expr place, Expr tap, double a) {
  const Split at = split(n, place);
  const Expr step = tap - n.constant_int(DType::i64, 1);
  return {at.element + step, cubic_weight(n, n.unary(ExprOp::abs, at.fraction - n.cast(step, place.dtype())), a)};
}

Expr cubic_weight(NestBuilder& n, Expr x, double a) {
  const auto number = [&](double value) { return n.constant(x.dtype(), value); };
  const Expr near = (x * (a + 2.0) - number(a + 3.0)) * x * x + 1.0;
  const Expr far = ((x * a - number(5 * a)) * x + number(8 * a)) * x - number(4 * a);
  return n.select(n.binary(ExprOp::less_equal, x, number(1)), near, n.select(n.binary(ExprOp::less, x, number(2)), far, number(0)));
}

Expr weighted_element(Lowering& l, NestBuilder& n, TensorId x, DType dtype, std::vector<Expr> lead, const std::vector<SampledAxis>& axes, Outside outside) {
  const auto entry = [&](TensorId table, const SampledAxis& axis) { return n.load_at(table, l.program.tensor(table).type, axis.at); };
  const Type type = l.program.tensor(x).type;
  for (const SampledAxis& axis : axes) lead.push_back(entry(axis.tables.index, axis));
  std::optional<Expr> fill;
  if (outside == Outside::zero) fill = n.constant(type.dtype, 0);
  Expr value = n.cast(n.load_at(x, type, lead, fill), dtype);
  for (const SampledAxis& axis : axes)
    if (axis.tables.weight >= 0) value = value * n.cast(entry(axis.tables.weight, axis), dtype);
  return value;
}

}  // namespace tilewright
