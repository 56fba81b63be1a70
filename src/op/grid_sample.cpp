#include "op/sampling.h"
#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::NestBuilder;

constexpr double cubic_a = -0.75;  // as ONNX and PyTorch have it

struct Sampling {
  std::string mode, padding;
  bool aligned;  ///< -1 and 1 are the centres of the outermost elements, not their outer edges
};

Sampling sampling_of(const InferContext& c) {
  Sampling s{c.text_or("mode", "linear"), c.text_or("padding", "zeros"), c.integer_or("align_corners", 0) != 0};
  c.require(s.mode == "linear" || s.mode == "nearest" || s.mode == "cubic", "mode is '{}'; needs linear, nearest or cubic", s.mode);
  c.require(s.padding == "zeros" || s.padding == "border" || s.padding == "reflection", "padding is '{}'; needs zeros, border or reflection", s.padding);
  return s;
}

std::vector<Type> infer_grid_sample(const InferContext& c) {
  const Sampling s = sampling_of(c);
  c.require(c.rank(0) >= 3 && c.rank(1) == c.rank(0), "x is {}, grid is {}; needs [n,c,spatial…] and [n,places…,spatial rank]", str(c.type(0)), str(c.type(1)));
  c.require(is_float(c.dtype(1)), "grid is {}; needs a float dtype", str(c.type(1)));
  c.require(is_float(c.dtype(0)) || s.mode == "nearest", "x is {}; mode {} needs a float dtype", str(c.type(0)), s.mode);
  const Dims &x = c.dims(0), &grid = c.dims(1);
  c.require_equal(x[0], grid[0], fmt::format("batches of x {} and grid {}", str(x), str(grid)));
  c.require_equal(grid.back(), c.rank(0) - 2, fmt::format("coordinates of a place in grid {} and spatial axes of x {}", str(grid), str(x)));
  for (size_t axis = 2; axis < x.size(); ++axis)
    c.require(s.padding == "zeros" || !(x[axis] == Dim(0)), "x is {}; padding {} needs elements", str(c.type(0)), s.padding);
  Dims dims = {x[0], x[1]};
  dims.insert(dims.end(), grid.begin() + 1, grid.end() - 1);
  return {{c.dtype(0), dims}};
}

/// The place in elements of a coordinate of the grid, where -1 and 1 are the ends of the axis.
Expr place_of(NestBuilder& n, const Sampling& s, Expr coordinate, const Dim& extent) {
  const DType dtype = coordinate.dtype();
  const Expr size = n.cast(n.size(extent), dtype);
  const Expr place = s.aligned ? (coordinate + 1.0) / 2.0 * (size - 1.0) : ((coordinate + 1.0) * size - 1.0) / 2.0;
  return s.mode == "nearest" ? n.unary(ExprOp::round_even, place) : place;
}

/// The element that stands at `index` of an axis mirrored at both ends again and again: at its outermost elements, or at their edges.
Expr mirrored(NestBuilder& n, Expr index, const Dim& extent, bool at_elements) {
  const Dim period = at_elements ? (extent - 1) * 2 : extent * 2;
  const Expr phase = n.binary(ExprOp::mod, index, n.size(period));
  return n.binary(ExprOp::min, phase, n.size(at_elements ? period : period - 1) - phase);
}

TapTables tables_of(Lowering& l, const Sampling& s, int axis, int64_t taps) {
  const Type x = l.in_type(0), grid = l.in_type(1);
  const int spatial = static_cast<int>(x.dims.size()) - 2;
  const Dim extent = x.dims[static_cast<size_t>(axis) + 2];
  return emit_taps(l, taps, Dims(grid.dims.begin(), grid.dims.end() - 1), [&](NestBuilder& n) {
    std::vector<Expr> at;
    for (int d = 0; d <= spatial; ++d) at.push_back(n.index(1 + d));
    at.push_back(n.constant_int(DType::i64, spatial - 1 - axis));  // coordinates come innermost axis first
    const Expr coordinate = n.cast(n.load_at(l.in(1), grid, at), sampling_dtype(grid.dtype));
    const Expr place = place_of(n, s, coordinate, extent);
    Tap tap{n.cast(place, DType::i64), {}};
    if (s.mode == "linear") tap = linear_tap(n, place, n.index(0));
    if (s.mode == "cubic") tap = cubic_tap(n, place, n.index(0), cubic_a);
    if (s.padding == "reflection") tap.index = mirrored(n, tap.index, extent, s.aligned);
    return tap;
  });
}

/// out[n, c, o…] = Σ over a tap t of each axis of x[n, c, index[t, n, o…]…] · Π weight[t, n, o…].
void lower_grid_sample(Lowering& l) {
  const Sampling s = sampling_of(l.context());
  const Type out = l.out_type();
  const int rank = static_cast<int>(out.dims.size());
  const int64_t taps = s.mode == "cubic" ? 4 : s.mode == "linear" ? 2 : 1;
  std::vector<TapTables> tables;
  for (int axis = 0; axis + 2 < rank; ++axis) tables.push_back(tables_of(l, s, axis, taps));

  NestBuilder n(out.dims);
  std::vector<Expr> at = {n.index(0)};
  for (int d = 2; d < rank; ++d) at.push_back(n.index(d));
  std::vector<SampledAxis> axes;
  for (const TapTables& table : tables) axes.push_back({table, at});
  const DType wide = taps > 1 ? sampling_dtype(out.dtype) : out.dtype;
  const Outside outside = s.padding == "zeros" ? Outside::zero : Outside::nearest;
  n.store(l.out(), n.cast(combined_taps(l, n, l.in(0), wide, {n.index(0), n.index(1)}, axes, outside), out.dtype));
  l.emit(n);
}

constexpr OpDef ops[] = {{"grid_sample", 2, 2, infer_grid_sample, lower_grid_sample}};

}  // namespace

std::span<const OpDef> grid_sample_ops() { return ops; }

}  // namespace tilewright
