#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/interpret.h"

namespace tilewright::pattern {
namespace {

bool finds_position(ReduceOp op) { return op >= ReduceOp::arg_min; }
bool wants_smaller(ReduceOp op) { return op == ReduceOp::min || op == ReduceOp::arg_min || op == ReduceOp::arg_min_last; }
bool takes_last(ReduceOp op) { return op == ReduceOp::arg_min_last || op == ReduceOp::arg_max_last; }

/// One reduction's running results, by kept point.
class Accumulator {
 public:
  Accumulator(const Reduction& reduction, DType value, int64_t kept) : reduction_(reduction), dtype_(value) {
    const size_t count = static_cast<size_t>(kept);
    const double infinity = std::numeric_limits<double>::infinity();
    double real = 0;
    int64_t integer = 0;
    if (reduction.op == ReduceOp::product) {
      real = 1;
      integer = 1;
    } else if (reduction.op != ReduceOp::sum) {
      real = wants_smaller(reduction.op) ? infinity : -infinity;
      integer = wants_smaller(reduction.op) ? largest_integer(value) : lowest_integer(value);
    }
    is_float(value) ? reals_.assign(count, real) : integers_.assign(count, integer);
    if (finds_position(reduction.op)) positions_.assign(count, 0);
  }

  const Reduction& reduction() const { return reduction_; }

  /// Joins values first … last-1 of the block into kept point `at`; the first of them stands at `position` of the reduced coordinates.
  void join(size_t at, const Column& values, size_t first, size_t last, int64_t position) {
    is_float(dtype_) ? join_reals(at, values.reals, first, last, position) : join_integers(at, values.integers, first, last, position);
  }

  Array result(const Run& run, int64_t kept) {
    Array array{reduction_.dtype, {kept}, std::move(reals_), std::move(integers_)};
    if (finds_position(reduction_.op)) {
      array.reals.clear();
      array.integers = std::move(positions_);
    }
    if (run.rounds()) round_block(array.real() ? array.dtype : DType::f64, array.reals.data(), array.reals.size());
    wrap_block(array.real() ? DType::i64 : array.dtype, array.integers.data(), array.integers.size());
    return array;
  }

 private:
  void join_reals(size_t at, const std::vector<double>& values, size_t first, size_t last, int64_t position) {
    double total = reals_[at];
    switch (reduction_.op) {
      case ReduceOp::sum:
        for (size_t p = first; p < last; ++p) total += values[p];
        break;
      case ReduceOp::product:
        for (size_t p = first; p < last; ++p) total *= values[p];
        break;
      case ReduceOp::min:
        for (size_t p = first; p < last; ++p) total = apply(ExprOp::min, total, values[p]);
        break;
      case ReduceOp::max:
        for (size_t p = first; p < last; ++p) total = apply(ExprOp::max, total, values[p]);
        break;
      default:
        for (size_t p = first; p < last; ++p, ++position) {
          // NaN wins over every number, as in numpy.
          const double value = values[p];
          const bool tie = value == total || (std::isnan(value) && std::isnan(total));
          const bool better = !std::isnan(total) && (std::isnan(value) || (wants_smaller(reduction_.op) ? value < total : value > total));
          if (position != 0 && !better && !(tie && takes_last(reduction_.op))) continue;
          total = value;
          positions_[at] = position;
        }
    }
    reals_[at] = total;
  }

  void join_integers(size_t at, const std::vector<int64_t>& values, size_t first, size_t last, int64_t position) {
    int64_t total = integers_[at];
    switch (reduction_.op) {
      case ReduceOp::sum:
        for (size_t p = first; p < last; ++p) total = apply(ExprOp::add, dtype_, total, values[p]);
        break;
      case ReduceOp::product:
        for (size_t p = first; p < last; ++p) total = apply(ExprOp::mul, dtype_, total, values[p]);
        break;
      case ReduceOp::min:
        for (size_t p = first; p < last; ++p) total = apply(ExprOp::min, dtype_, total, values[p]);
        break;
      case ReduceOp::max:
        for (size_t p = first; p < last; ++p) total = apply(ExprOp::max, dtype_, total, values[p]);
        break;
      default:
        for (size_t p = first; p < last; ++p, ++position) {
          const int64_t value = values[p];
          const bool better = wants_smaller(reduction_.op) ? apply(ExprOp::less, dtype_, value, total) != 0 : apply(ExprOp::less, dtype_, total, value) != 0;
          if (position != 0 && !better && !(value == total && takes_last(reduction_.op))) continue;
          total = value;
          positions_[at] = position;
        }
    }
    integers_[at] = total;
  }

  const Reduction& reduction_;
  DType dtype_;
  std::vector<double> reals_;
  std::vector<int64_t> integers_, positions_;
};

std::vector<size_t> axes_up_to(size_t rank) {
  std::vector<size_t> axes(rank);
  std::iota(axes.begin(), axes.end(), size_t{0});
  return axes;
}

int64_t checked_product(int64_t a, int64_t b, const std::string& source) {
  int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) fail(ErrorKind::invalid_input, "{}: the number of points to compute overflows 64 bits", source);
  return result;
}

std::vector<Array> reduce_all(Machine& machine, const Nest& nest, const std::vector<int64_t>& extents, int64_t kept, int64_t reduced) {
  std::vector<Accumulator> accumulators;
  std::vector<ExprId> roots;
  for (const Reduction& reduction : nest.reductions) {
    roots.push_back(reduction.value);
    accumulators.emplace_back(reduction, nest.nodes.at(static_cast<size_t>(reduction.value)).dtype, kept);
  }
  const int64_t all = checked_product(kept, reduced, nest.source);
  machine.run.spend(all, nest.source);
  Evaluator evaluator(machine, nest.source, nest.accesses, nest.nodes, extents, roots);
  Points points(extents.size());
  const std::vector<size_t> axes = axes_up_to(extents.size());
  for (int64_t first = 0; first < all; first += Points::capacity) {
    points.enumerate(extents, axes, first, std::min(Points::capacity, all - first));
    evaluator.evaluate(points);
    for (Accumulator& accumulator : accumulators) {
      const Column& values = evaluator.value(accumulator.reduction().value);
      for (int64_t p = 0; p < points.count;) {
        const int64_t position = (first + p) % reduced;
        const int64_t end = std::min(points.count, p + reduced - position);
        accumulator.join(static_cast<size_t>((first + p) / reduced), values, static_cast<size_t>(p), static_cast<size_t>(end), position);
        p = end;
      }
    }
  }
  std::vector<Array> results;
  for (Accumulator& accumulator : accumulators) results.push_back(accumulator.result(machine.run, kept));
  return results;
}

/// Where an output goes: addresses of kept points in its tensor.
struct Goal {
  const Store& store;
  Array& array;
  Addressing addressing;
};

}  // namespace

void interpret(Machine& machine, const Nest& nest) {
  const std::vector<int64_t> extents = evaluate(nest.space, machine.run.sizes);
  const size_t kept_rank = extents.size() - static_cast<size_t>(nest.reduced_rank);
  const std::vector<int64_t> kept_extents(extents.begin(), extents.begin() + static_cast<std::ptrdiff_t>(kept_rank));
  const int64_t kept = element_count(kept_extents), reduced = element_count({extents.begin() + static_cast<std::ptrdiff_t>(kept_rank), extents.end()});

  std::vector<Array> results;
  if (!nest.reductions.empty()) {
    if (kept > machine.run.options.element_limit)
      fail(ErrorKind::invalid_input, "{}: {} results are more than the interpreter's limit of {}", nest.source, kept, machine.run.options.element_limit);
    Array sums;
    if (contract_in_tiles(machine, nest, extents, sums))
      results.push_back(std::move(sums));
    else
      results = reduce_all(machine, nest, extents, kept, reduced);
  }

  // What is stored is computed at the kept points, the reduced coordinates being 0.
  std::vector<int64_t> outer = kept_extents;
  outer.resize(extents.size(), 1);
  std::vector<ExprId> roots;
  std::vector<Goal> goals;
  for (const Store& store : nest.outputs) {
    roots.push_back(store.value);
    Array& array = machine.create(store.tensor);
    goals.push_back({store, array, Addressing(store.map, machine.run.sizes, kept_extents, array.dims)});
  }
  machine.run.spend(kept, nest.source);
  Evaluator evaluator(machine, nest.source, nest.accesses, nest.nodes, outer, roots, &results);
  Points points(extents.size());
  const std::vector<size_t> axes = axes_up_to(kept_rank);
  std::vector<const int64_t*> upper;
  for (size_t d = 0; d < kept_rank; ++d) upper.push_back(points.coordinates[d].data());
  for (int64_t first = 0; first < kept; first += Points::capacity) {
    points.enumerate(outer, axes, first, std::min(Points::capacity, kept - first));
    evaluator.evaluate(points);
    for (Goal& goal : goals) {
      goal.addressing.compute(upper, static_cast<size_t>(points.count), nullptr, nest.source);
      const int64_t* address = goal.addressing.addresses();
      const uint8_t* valid = goal.addressing.validity();
      const Column& values = evaluator.value(goal.store.value);
      for (size_t p = 0; p < static_cast<size_t>(points.count); ++p) {
        if (valid != nullptr && !valid[p]) continue;
        goal.array.real() ? void(goal.array.reals[static_cast<size_t>(address[p])] = values.reals[p])
                          : void(goal.array.integers[static_cast<size_t>(address[p])] = values.integers[p]);
      }
    }
  }
}

void interpret(Machine& machine, const Scatter& scatter) {
  const std::vector<int64_t> extents = evaluate(scatter.space, machine.run.sizes);
  const int64_t all = element_count(extents);
  machine.run.spend(all, scatter.source);
  Array& output = machine.create(scatter.output);
  const Array& initial = machine.get(scatter.initial);
  if (initial.dims != output.dims) fail(ErrorKind::internal, "internal error: {}: the output's dims are not those of what it starts from", scatter.source);
  output.reals = initial.reals;
  output.integers = initial.integers;

  std::vector<ExprId> roots = scatter.indirect;
  roots.push_back(scatter.value);
  Evaluator evaluator(machine, scatter.source, scatter.accesses, scatter.nodes, extents, roots);
  const auto map = tilewright::evaluate(scatter.map, machine.run.sizes);
  const std::vector<int64_t> strides = row_major_strides(output.dims);
  std::vector<int64_t> upper(extents.size() + scatter.indirect.size()), lower(output.dims.size());
  constexpr ExprOp combinations[] = {ExprOp::add, ExprOp::add, ExprOp::mul, ExprOp::min, ExprOp::max};
  const ExprOp combination = combinations[static_cast<size_t>(scatter.combine)];
  const bool assigns = scatter.combine == Scatter::Combine::assign;
  Points points(extents.size());
  const std::vector<size_t> axes = axes_up_to(extents.size());
  for (int64_t first = 0; first < all; first += Points::capacity) {
    points.enumerate(extents, axes, first, std::min(Points::capacity, all - first));
    evaluator.evaluate(points);
    for (size_t p = 0; p < static_cast<size_t>(points.count); ++p) {
      bool valid = true;
      for (size_t d = 0; d < extents.size(); ++d) upper[d] = points.coordinates[d][p];
      for (size_t k = 0; k < scatter.indirect.size(); ++k) {
        int64_t& coordinate = upper[extents.size() + k];
        coordinate = evaluator.value(scatter.indirect[k]).integers[p];
        valid = valid && 0 <= coordinate && coordinate < map.extent_in(static_cast<int>(extents.size() + k));
      }
      valid = valid && map.lower(upper, lower);
      int64_t address = 0;
      for (size_t axis = 0; axis < lower.size() && valid; ++axis) {
        valid = 0 <= lower[axis] && lower[axis] < output.dims[axis];
        if (valid) address += lower[axis] * strides[axis];
      }
      if (!valid) continue;
      if (output.real()) {
        double& old = output.reals[static_cast<size_t>(address)];
        const double value = evaluator.value(scatter.value).reals[p];
        old = assigns ? value : machine.run.rounded(output.dtype, apply(combination, old, value));
      } else {
        int64_t& old = output.integers[static_cast<size_t>(address)];
        const int64_t value = evaluator.value(scatter.value).integers[p];
        old = assigns ? value : wrap_to(output.dtype, apply(combination, output.dtype, old, value));
      }
    }
  }
}

}  // namespace tilewright::pattern
