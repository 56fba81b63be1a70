#include <cmath>

#include "op/sampling.h"
#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::Map;
using pattern::NestBuilder;
using pattern::ReduceOp;
using pattern::TensorId;

/// How one axis is resampled. `scale` 0 stands for out/in.
struct Axis {
  size_t axis;
  Dim in, out;
  double scale, roi_start, roi_end;
};

std::vector<Type> infer_resize(const InferContext& c) {
  const Dims dims = c.sizes("dims");
  const std::string mode = c.text_or("mode", "nearest");
  c.require(dims.size() == c.dims(0).size(), "{} is resized to {}", str(c.dims(0)), str(dims));
  c.require(mode == "nearest" || mode == "linear" || mode == "cubic", "mode '{}' is unknown", mode);
  for (size_t axis = 0; axis < dims.size(); ++axis)
    c.require(!(c.dims(0)[axis] == Dim(0)) || dims[axis] == Dim(0), "an empty axis cannot become {}", dims[axis].str());
  return {{c.dtype(0), dims}};
}

std::vector<double> reals(const InferContext& c, const std::string& name) {
  const auto found = c.node().attributes.find(name);
  return found == c.node().attributes.end() ? std::vector<double>{} : std::get<std::vector<double>>(found->second);
}

std::vector<Axis> resampled_axes(const InferContext& c) {
  const Dims &in = c.dims(0), out = c.sizes("dims");
  const std::vector<double> scales = reals(c, "scales"), roi = reals(c, "roi");
  const bool crops = c.text_or("coordinate", "half_pixel") == "tf_crop_and_resize";
  std::vector<Axis> axes;
  for (size_t axis = 0; axis < in.size(); ++axis) {
    const double scale = scales.empty() ? 0.0 : scales.at(axis);
    const double start = roi.empty() ? 0.0 : roi.at(axis), end = roi.empty() ? 1.0 : roi.at(axis + in.size());
    const bool cropped = crops && (start != 0.0 || end != 1.0);
    if (in[axis] == out[axis] && (scale == 0.0 || scale == 1.0) && !cropped) continue;
    axes.push_back({axis, in[axis], out[axis], scale, start, end});
  }
  return axes;
}

/// Formulas over f64 expressions of one nest.
struct Sampler {
  NestBuilder& n;
  const InferContext& c;
  const Axis& axis;

  Expr number(double value) const { return n.constant(DType::f64, value); }
  Expr real(const Dim& dim) const { return n.cast(n.size(dim), DType::f64); }
  Expr scale() const { return axis.scale != 0.0 ? number(axis.scale) : real(axis.out) / real(axis.in); }
  /// The resized length before it was rounded down to whole elements.
  Expr length() const { return axis.scale != 0.0 ? number(axis.scale) * real(axis.in) : real(axis.out); }

  /// Place in the input of output position `index` (i64), as the ONNX coordinate transformation modes define it.
  Expr coordinate(Expr index) const {
    const std::string mode = c.text_or("coordinate", "half_pixel");
    const Expr x = n.cast(index, DType::f64), s = scale(), zero = number(0), one = number(1);
    const Expr half = (x + 0.5) / s - 0.5;
    if (mode == "asymmetric") return x / s;
    if (mode == "pytorch_half_pixel") return n.select(n.binary(ExprOp::less, one, length()), half, zero);
    if (mode == "align_corners") {
      const Expr gaps = length() - 1.0;
      return n.select(n.binary(ExprOp::equal, gaps, zero), zero, x * (real(axis.in) - 1.0) / gaps);
    }
    if (mode == "tf_crop_and_resize") {
      const Expr gaps = length() - 1.0, span = real(axis.in) - 1.0;
      return n.select(n.binary(ExprOp::less, zero, gaps), number(axis.roi_start) * span + x * number(axis.roi_end - axis.roi_start) * span / gaps,
                      number(0.5 * (axis.roi_start + axis.roi_end)) * span);
    }
    if (mode == "half_pixel_symmetric") {
      const Expr adjusted = real(axis.out) / length();
      return real(axis.in) / 2.0 * (1.0 - adjusted) + half;
    }
    c.require(mode == "half_pixel", "coordinate mode '{}' is unknown", mode);
    return half;
  }

  Expr whole(ExprOp how, Expr x) const { return n.cast(n.unary(how, x), DType::i64); }
  Expr clamped(Expr index) const { return n.binary(ExprOp::max, n.constant_int(DType::i64, 0), n.binary(ExprOp::min, index, n.size(axis.in - 1))); }

  Expr nearest(Expr x) const {
    const std::string mode = c.text_or("nearest", "round_prefer_floor");
    if (mode == "floor") return clamped(whole(ExprOp::floor, x));
    if (mode == "ceil") return clamped(whole(ExprOp::ceil, x));
    if (mode == "round_prefer_ceil") return clamped(whole(ExprOp::floor, x + 0.5));
    c.require(mode == "round_prefer_floor", "nearest mode '{}' is unknown", mode);
    return clamped(whole(ExprOp::ceil, x - 0.5));
  }

  Expr outside(Expr x) const { return n.binary(ExprOp::logical_or, n.binary(ExprOp::less, x, number(0)), n.binary(ExprOp::less, real(axis.in) - 1.0, x)); }

  /// Weight of an input element at distance `d` (in input elements, already multiplied by min(scale, 1) when antialiased).
  Expr kernel(Expr d, bool cubic) const {
    const Expr x = n.unary(ExprOp::abs, d);
    if (!cubic) return n.binary(ExprOp::max, number(0), 1.0 - x);
    return cubic_weight(n, x, c.real_or("cubic_a", -0.75));
  }
};

/// Tables of one axis, computed by small nests: index [out] (nearest) or [out, taps], weight [out, taps], outside [out].
struct Tables {
  TensorId index = -1, weight = -1, outside = -1;
  int64_t taps = 1;
};

Tables make_tables(Lowering& l, const Axis& axis) {
  const InferContext c = l.context();
  const std::string mode = c.text_or("mode", "nearest");
  Tables tables;
  const bool extrapolates = c.text_or("coordinate", "half_pixel") == "tf_crop_and_resize";
  if (extrapolates) {
    tables.outside = l.temporary({DType::boolean, {axis.out}}, "outside");
    NestBuilder n({axis.out});
    const Sampler s{n, c, axis};
    n.store(tables.outside, s.outside(s.coordinate(n.index(0))));
    l.emit(n);
  }
  if (mode == "nearest") {
    tables.index = l.temporary({DType::i64, {axis.out}}, "index");
    NestBuilder n({axis.out});
    const Sampler s{n, c, axis};
    n.store(tables.index, s.nearest(s.coordinate(n.index(0))));
    l.emit(n);
    return tables;
  }
  const bool cubic = mode == "cubic", antialias = c.integer_or("antialias", 0) != 0;
  double shrink = 1.0;  // below 1 when an antialiased filter widens
  if (antialias) {
    double scale = axis.scale;
    if (scale == 0.0) {
      c.require(axis.in.is_constant() && axis.out.is_constant(), "an antialiased resize needs a known scale along axis {}", axis.axis);
      scale = static_cast<double>(axis.out.constant()) / static_cast<double>(axis.in.constant());
    }
    shrink = std::min(scale, 1.0);
  }
  const double reach = cubic ? 2.0 : 1.0;
  c.require(shrink > 1e-4, "scale {} along axis {} is too small for an antialiased filter", shrink, axis.axis);
  const int64_t first = static_cast<int64_t>(std::floor(-reach / shrink)) + 1;
  tables.taps = 2 - 2 * first;
  tables.index = l.temporary({DType::i64, {axis.out, Dim(tables.taps)}}, "index");
  tables.weight = l.temporary({DType::f32, {axis.out, Dim(tables.taps)}}, "weight");
  const bool drops = c.integer_or("exclude_outside", 0) != 0;
  const auto weight_of = [&](const Sampler& s, Expr x, Expr tap) {
    Expr w = s.kernel((s.n.cast(tap, DType::f64) - x) * shrink, cubic);
    if (drops) {
      const Expr inside = s.n.binary(ExprOp::logical_and, s.n.binary(ExprOp::less_equal, s.n.constant_int(DType::i64, 0), tap),
                                     s.n.binary(ExprOp::less, tap, s.n.size(axis.in)));
      w = s.n.select(inside, w, s.number(0));
    }
    return w;
  };
  const auto tap_at = [&](const Sampler& s, Expr x) { return s.whole(ExprOp::floor, x) + s.n.constant_int(DType::i64, first) + s.n.index(1); };
  const TensorId total = l.temporary({DType::f64, {axis.out}}, "total");
  {
    NestBuilder n({axis.out, Dim(tables.taps)}, 1);
    const Sampler s{n, c, axis};
    const Expr x = s.coordinate(n.index(0));
    n.store(total, n.reduce(ReduceOp::sum, weight_of(s, x, tap_at(s, x)), DType::f64));
    l.emit(n);
  }
  NestBuilder n({axis.out, Dim(tables.taps)});
  const Sampler s{n, c, axis};
  const Expr x = s.coordinate(n.index(0)), tap = tap_at(s, x);
  n.store(tables.index, s.clamped(tap));
  const Expr sum = n.load_at(total, l.program.tensor(total).type, {n.index(0)});
  n.store(tables.weight, n.cast(weight_of(s, x, tap) / sum, DType::f32));
  l.emit(n);
  return tables;
}

/// One axis after the other; nearest and linear picks commute across axes, and so does the separable cubic.
void lower_resize(Lowering& l) {
  const InferContext c = l.context();
  const std::vector<Axis> axes = resampled_axes(c);
  const Type out = l.out_type();
  TensorId source = l.in(0);
  Type type = l.in_type(0);
  if (axes.empty()) {
    NestBuilder n(out.dims);
    n.store(l.out(), n.load(source, type.dtype, Map::identity(type.dims)));
    l.emit(n);
    return;
  }
  const DType wide = type.dtype == DType::f64 ? DType::f64 : DType::f32;
  for (size_t k = 0; k < axes.size(); ++k) {
    const Axis& axis = axes[k];
    const Tables tables = make_tables(l, axis);
    Type next = type;
    next.dims[axis.axis] = axis.out;
    const bool last = k + 1 == axes.size();
    if (tables.weight >= 0) next.dtype = last ? out.dtype : wide;
    const TensorId result = last ? l.out() : l.temporary(next, "axis" + std::to_string(axis.axis));
    Dims space = next.dims;
    const bool sums = tables.weight >= 0;
    if (sums) space.push_back(tables.taps);
    NestBuilder n(space, sums ? 1 : 0);
    std::vector<Expr> table_at = {n.index(static_cast<int>(axis.axis))}, coordinates;
    if (sums) table_at.push_back(n.index(static_cast<int>(space.size()) - 1));
    const Expr index = n.load_at(tables.index, l.program.tensor(tables.index).type, table_at);
    for (size_t d = 0; d < type.dims.size(); ++d) coordinates.push_back(d == axis.axis ? index : n.index(static_cast<int>(d)));
    Expr value = n.load_at(source, type, coordinates);
    if (sums)
      value = n.reduce(ReduceOp::sum, n.cast(value, wide) * n.cast(n.load_at(tables.weight, l.program.tensor(tables.weight).type, table_at), wide), wide);
    if (tables.outside >= 0) {
      const Expr outside = n.load_at(tables.outside, l.program.tensor(tables.outside).type, {n.index(static_cast<int>(axis.axis))});
      value = n.select(outside, n.constant(value.dtype(), c.real_or("extrapolation", 0.0)), value);
    }
    if (sums && !is_float(next.dtype)) value = n.unary(ExprOp::round_even, value);
    n.store(result, n.cast(value, next.dtype));
    l.emit(n);
    source = result;
    type = next;
  }
}

constexpr OpDef ops[] = {{"resize", 1, 1, infer_resize, lower_resize}};

}  // namespace

std::span<const OpDef> resize_ops() { return ops; }

}  // namespace tilewright
