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

TapTables emit_taps(Lowering& l, int64_t taps, const Dims& places, const std::function<Tap(NestBuilder&)>& tap) {
  Dims space = {taps};
  space.insert(space.end(), places.begin(), places.end());
  NestBuilder n(space);
  const Tap entry = tap(n);
  TapTables tables;
  tables.taps = taps;
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

Expr combined_taps(Lowering& l, NestBuilder& n, TensorId x, DType dtype, const std::vector<Expr>& lead, std::span<const SampledAxis> axes, Outside outside,
                   ExprOp combine) {
  const Type type = l.program.tensor(x).type;
  if (axes.empty()) {
    std::optional<Expr> fill;
    if (outside == Outside::zero) fill = n.constant(type.dtype, 0);
    return n.cast(n.load_at(x, type, lead, fill), dtype);
  }
  const SampledAxis& axis = axes.front();
  std::optional<Expr> all;
  for (int64_t tap = 0; tap < axis.tables.taps; ++tap) {
    std::vector<Expr> entry = {n.constant_int(DType::i64, tap)};
    entry.insert(entry.end(), axis.at.begin(), axis.at.end());
    const auto of = [&](TensorId table) { return n.load_at(table, l.program.tensor(table).type, entry); };
    std::vector<Expr> place = lead;
    place.push_back(of(axis.tables.index));
    Expr value = combined_taps(l, n, x, dtype, place, axes.subspan(1), outside, combine);
    if (axis.tables.weight >= 0) value = value * n.cast(of(axis.tables.weight), dtype);
    all = all ? n.binary(combine, *all, value) : value;
  }
  return *all;
}

}  // namespace tilewright
