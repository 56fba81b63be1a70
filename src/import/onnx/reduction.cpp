#include <numeric>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"
#include "import/onnx/runtime_axes.h"

namespace tilewright::onnx {
namespace {

/// What to reduce over, read from the node once.
struct Reduced {
  std::vector<int64_t> axes;
  bool keep_dims;
  ValueId at_run_time = no_value;  ///< the axes, when they are known at run time only

  ValueId apply(Builder& b, std::string_view core, ValueId x, bool keep) const {
    if (at_run_time != no_value) return reduce_at(b, core, x, at_run_time, keep);
    return axes.empty() ? x : b.reduce(core, x, axes, keep);
  }
  ValueId apply(Builder& b, std::string_view core, ValueId x) const { return apply(b, core, x, keep_dims); }
  /// Drops the dims of 1 of something reduced with its dims kept, as the node asks.
  ValueId finish(Builder& b, ValueId x) const {
    if (keep_dims) return x;
    if (at_run_time != no_value) return squeeze_at(b, x, at_run_time);
    return axes.empty() ? x : b.squeeze(x, axes);
  }
};

/// `since_input`: the opset from which axes are an input.
Reduced reduced_of(NodeImport& n, int64_t since_input) {
  const int rank = n.rank(0);
  const bool keep_dims = n.flag("keepdims", true);
  Axes axes;
  if (n.opset() < since_input) {
    axes.known = n.integers("axes");
  } else {
    axes = axes_of_input(n, 1, rank);
  }
  if (axes.at_run_time != no_value) return {{}, keep_dims, axes.at_run_time};
  if (axes.known.empty() && !n.flag("noop_with_empty_axes", false)) {
    axes.known.resize(static_cast<size_t>(rank));
    std::iota(axes.known.begin(), axes.known.end(), 0);
  }
  return {n.axes(axes.known, rank), keep_dims};
}

void plain(NodeImport& n, std::string_view core, int64_t since_input = 18) { n.set(reduced_of(n, since_input).apply(n.b, core, n.in(0))); }

void reduce_max(NodeImport& n) { plain(n, "reduce_max"); }
void reduce_mean(NodeImport& n) { plain(n, "reduce_mean"); }
void reduce_min(NodeImport& n) { plain(n, "reduce_min"); }
void reduce_prod(NodeImport& n) { plain(n, "reduce_product"); }
void reduce_sum(NodeImport& n) { plain(n, "reduce_sum", 13); }

void reduce_l1(NodeImport& n) { n.set(reduced_of(n, 18).apply(n.b, "reduce_sum", n.b.unary("abs", n.in(0)))); }

void reduce_sum_square(NodeImport& n) {
  const ValueId x = n.in(0);
  n.set(reduced_of(n, 18).apply(n.b, "reduce_sum", n.b.mul(x, x)));
}

/// Roots and logarithms of integers go through f64 and are cut back to integers.
template <class Compute>
void in_floats(NodeImport& n, const Compute& compute) {
  const DType dtype = n.dtype(0);
  n.set(n.b.cast(compute(n.b.cast(n.in(0), is_float(dtype) ? dtype : DType::f64)), dtype));
}

void reduce_l2(NodeImport& n) {
  in_floats(n, [&](ValueId x) { return n.b.sqrt(reduced_of(n, 18).apply(n.b, "reduce_sum", n.b.mul(x, x))); });
}

void reduce_log_sum(NodeImport& n) {
  in_floats(n, [&](ValueId x) { return n.b.log(reduced_of(n, 18).apply(n.b, "reduce_sum", x)); });
}

/// log Σ eˣ = m + log Σ eˣ⁻ᵐ with m the largest x; 0 where that is infinite, which stands for no element or for itself.
void reduce_log_sum_exp(NodeImport& n) {
  in_floats(n, [&](ValueId x) {
    Builder& b = n.b;
    const Reduced reduced = reduced_of(n, 18);
    const ValueId largest = reduced.apply(b, "reduce_max", x, true);
    const ValueId shift = b.where(b.unary("is_inf", largest), b.scalar(b.dtype(x), 0), largest);
    const ValueId spread = reduced.at_run_time == no_value ? shift : spread_at(b, shift, x, reduced.at_run_time);
    const ValueId sum = reduced.apply(b, "reduce_sum", b.exp(b.sub(x, spread)), true);
    return reduced.finish(b, b.add(b.log(sum), shift));
  });
}

void arg_reduce(NodeImport& n, std::string_view core) {
  const int axis = n.axis(n.integer("axis", 0), n.rank(0));
  n.set(n.b.one(core, {n.in(0)}, {{"axis", int64_t{axis}}, {"keep_dims", n.integer("keepdims", 1)}, {"last", n.integer("select_last_index", 0)}}));
}
void arg_max(NodeImport& n) { arg_reduce(n, "arg_max"); }
void arg_min(NodeImport& n) { arg_reduce(n, "arg_min"); }

void cumulate(NodeImport& n, bool product) {
  const auto along = [&](int axis) {
    return n.b.one("cumulate", {n.in(0)},
                   {{"axis", int64_t{axis}}, {"product", int64_t{product}}, {"exclusive", n.integer("exclusive", 0)}, {"reverse", n.integer("reverse", 0)}});
  };
  if (const auto axis = integers_if_known(n, 1)) {
    n.require(axis->size() == 1, "needs one axis");
    return n.set(along(n.axis((*axis)[0], n.rank(0))));
  }
  n.require(n.rank(0) > 0, "its input has no axes");
  std::vector<ValueId> all;
  for (int axis = 0; axis < n.rank(0); ++axis) all.push_back(along(axis));
  n.set(choose_axis(n.b, as_i64(n.b, n.in(1)), all));
}
void cum_prod(NodeImport& n) { cumulate(n, true); }
void cum_sum(NodeImport& n) { cumulate(n, false); }

constexpr OperatorEntry table[] = {
    {"", "ArgMax", 1, arg_max},
    {"", "ArgMin", 1, arg_min},
    {"", "CumProd", 26, cum_prod},
    {"", "CumSum", 11, cum_sum},
    {"", "ReduceL1", 1, reduce_l1},
    {"", "ReduceL2", 1, reduce_l2},
    {"", "ReduceLogSum", 1, reduce_log_sum},
    {"", "ReduceLogSumExp", 1, reduce_log_sum_exp},
    {"", "ReduceMax", 1, reduce_max},
    {"", "ReduceMean", 1, reduce_mean},
    {"", "ReduceMin", 1, reduce_min},
    {"", "ReduceProd", 1, reduce_prod},
    {"", "ReduceSum", 1, reduce_sum},
    {"", "ReduceSumSquare", 1, reduce_sum_square},
};

}  // namespace

std::span<const OperatorEntry> reduction_operators() { return table; }

}  // namespace tilewright::onnx
