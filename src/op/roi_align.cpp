#include <cmath>

#include "op/sampling.h"
#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::NestBuilder;
using pattern::ReduceOp;

enum Operand { x_operand, batch_operand, starts_operand, bins_operand, counts_operand };

Dims pair_of(const InferContext& c, std::string_view name) {
  const Dims pair = c.sizes(name);
  c.require(pair.size() == 2, "{} has {} entries; needs 2", name, pair.size());
  for (const Dim& size : pair) c.require(!size.is_constant() || size.constant() >= 0, "{} is {}; needs sizes", name, str(pair));
  return pair;
}

std::vector<Type> infer_roi_align(const InferContext& c) {
  const std::string mode = c.text_or("mode", "avg");
  c.require(mode == "avg" || mode == "max", "mode is '{}'; needs avg or max", mode);
  c.require(c.rank(x_operand) == 4 && is_float(c.dtype(x_operand)), "x is {}; needs floats [n,c,h,w]", str(c.type(x_operand)));
  c.require(c.rank(batch_operand) == 1 && c.dtype(batch_operand) == DType::i64, "batch indices are {}; needs i64 [regions]", str(c.type(batch_operand)));
  const Dim regions = c.dims(batch_operand)[0];
  for (const Operand operand : {starts_operand, bins_operand, counts_operand}) {
    const bool counts = operand == counts_operand;
    const std::string_view name = operand == starts_operand ? "starts" : counts ? "counts" : "bins";
    c.require(c.rank(operand) == 2 && (counts ? c.dtype(operand) == DType::i64 : is_float(c.dtype(operand))), "{} are {}; needs {} [regions,2]", name,
              str(c.type(operand)), counts ? "i64" : "floats");
    c.require_equal(c.dims(operand)[0], regions, fmt::format("regions of {} and batch indices", name));
    c.require_equal(c.dims(operand)[1], 2, fmt::format("spatial axes of {}", name));
  }
  for (size_t axis = 2; axis < 4; ++axis) c.require(!(c.dims(x_operand)[axis] == Dim(0)), "x is {}; needs elements", str(c.type(x_operand)));
  pair_of(c, "samples");
  const Dims bins = pair_of(c, "dims");
  return {{c.dtype(x_operand), {regions, c.dims(x_operand)[1], bins[0], bins[1]}}};
}

/// Entry of a [regions, 2] operand.
Expr of_region(Lowering& l, NestBuilder& n, Operand operand, Expr region, int axis) {
  return n.load_at(l.in(operand), l.in_type(operand), {region, n.constant_int(DType::i64, axis)});
}

/// Tables over [tap, region, sample, bin] of spatial axis 0 or 1.
TapTables tables_of(Lowering& l, int axis, const Dim& samples) {
  const Dim extent = l.in_type(x_operand).dims[static_cast<size_t>(axis) + 2], bins = l.out_type().dims[static_cast<size_t>(axis) + 2];
  return emit_taps(l, 2, {l.out_type().dims[0], samples, bins}, [&](NestBuilder& n) {
    const DType dtype = l.in_type(starts_operand).dtype;
    const Expr zero = n.constant(dtype, 0), last = n.cast(n.size(extent - 1), dtype);
    const Expr region = n.index(1), number = n.index(2);
    const Expr bin = of_region(l, n, bins_operand, region, axis), count = of_region(l, n, counts_operand, region, axis);
    const Expr start = of_region(l, n, starts_operand, region, axis) + n.cast(n.index(3), dtype) * bin;
    // Begins one sample before the first inside and goes round: whatever `samples` leaves out of a larger count lies outside.
    const Expr none = n.constant_int(DType::i64, 0);
    const Expr before = n.cast(n.unary(ExprOp::floor, (-1.0 - start) * n.cast(count, dtype) / bin - 0.5), DType::i64);
    const Expr first = n.binary(ExprOp::max, none, n.binary(ExprOp::min, before, count));
    const Expr sample = n.binary(ExprOp::mod, first + number, count);
    const Expr place = start + (n.cast(sample, dtype) + 0.5) * bin / n.cast(count, dtype);
    // One element beyond the edges reads the edge; further out, and past the count (the samples come round again), it weighs nothing.
    const auto ordered = [&](Expr a, Expr b) { return n.binary(ExprOp::less_equal, a, b); };
    const Expr inside = n.binary(ExprOp::logical_and, ordered(n.constant(dtype, -1), place), ordered(place, last + 1.0));
    const Expr counted = n.binary(ExprOp::logical_and, inside, n.binary(ExprOp::less, number, count));
    const Tap tap = linear_tap(n, n.binary(ExprOp::max, zero, n.binary(ExprOp::min, place, last)), n.index(0));
    return Tap{tap.index, n.select(counted, *tap.weight, zero)};
  });
}

/// out[r, c, p, q] = mean over samples i, j of Σ over taps s, t of x[batch[r], c, row[s,r,i,p], column[t,r,j,q]] · weights, or the largest of
/// these products: what ONNX and its implementations take for mode max.
void lower_roi_align(Lowering& l) {
  const InferContext c = l.context();
  const bool averages = c.text_or("mode", "avg") == "avg";
  const Dims samples = pair_of(c, "samples");
  const Type out = l.out_type();
  const TapTables rows = tables_of(l, 0, samples[0]), columns = tables_of(l, 1, samples[1]);
  Dims space = out.dims;
  space.insert(space.end(), {samples[0], samples[1]});
  NestBuilder n(space, 2);
  const Expr batch = n.load_at(l.in(batch_operand), l.in_type(batch_operand), {n.index(0)});
  const std::vector<SampledAxis> axes = {{rows, {n.index(0), n.index(4), n.index(2)}}, {columns, {n.index(0), n.index(5), n.index(3)}}};
  const DType wide = sampling_dtype(out.dtype);
  const Expr value = combined_taps(l, n, l.in(x_operand), wide, {batch, n.index(1)}, axes, Outside::nearest, averages ? ExprOp::add : ExprOp::max);
  const Expr down = of_region(l, n, counts_operand, n.index(0), 0), across = of_region(l, n, counts_operand, n.index(0), 1);
  if (averages) {
    const Expr count = n.binary(ExprOp::max, n.constant(wide, 1), n.cast(down, wide) * n.cast(across, wide));
    n.store(l.out(), n.cast(n.reduce(ReduceOp::sum, value, wide) / count, out.dtype));
  } else {
    const auto both = [&](Expr below_down, Expr below_across) {
      return n.binary(ExprOp::logical_and, n.binary(ExprOp::less, below_down, down), n.binary(ExprOp::less, below_across, across));
    };
    const Expr none = n.constant_int(DType::i64, 0);
    const Expr largest = n.reduce(ReduceOp::max, n.select(both(n.index(4), n.index(5)), value, n.constant(wide, -HUGE_VAL)), wide);
    n.store(l.out(), n.cast(n.select(both(none, none), largest, n.constant(wide, 0)), out.dtype));
  }
  l.emit(n);
}

constexpr OpDef ops[] = {{"roi_align", 5, 5, infer_roi_align, lower_roi_align}};

}  // namespace

std::span<const OpDef> roi_align_ops() { return ops; }

}  // namespace tilewright
