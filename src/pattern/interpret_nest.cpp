#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/interpret.h"

namespace tilewright::pattern {
namespace {

std::vector<int64_t> evaluated(const Dims& dims, const Sizes& sizes) {
  std::vector<int64_t> values;
  for (const Dim& dim : dims) values.push_back(dim.evaluate(sizes));
  return values;
}

/// One reduction's running results, by kept point.
struct Accumulator {
  const Reduction& reduction;
  bool real;
  std::vector<double> reals;
  std::vector<int64_t> integers, positions;

  Accumulator(const Reduction& r, DType value, int64_t kept) : reduction(r), real(is_float(value)) {
    const auto fill = [&](double a, int64_t b) { real ? reals.assign(static_cast<size_t>(kept), a) : integers.assign(static_cast<size_t>(kept), b); };
    const double infinity = std::numeric_limits<double>::infinity();
    switch (r.op) {
      case ReduceOp::sum: fill(0, 0); break;
      case ReduceOp::product: fill(1, 1); break;
      case ReduceOp::min: case ReduceOp::arg_min: case ReduceOp::arg_min_last: fill(infinity, value == DType::u64 ? -1 : value == DType::i64 ? INT64_MAX : is_signed(value) ? (int64_t{1} << (bits_of(value) - 1)) - 1 : (int64_t{1} << bits_of(value)) - 1); break;
      default: fill(-infinity, !is_signed(value) ? 0 : value == DType::i64 ? INT64_MIN : -(int64_t{1} << (bits_of(value) - 1)));
    }
    if (r.op == ReduceOp::max && value == DType::boolean) fill(0, 0);
    if (r.op == ReduceOp::min && value == DType::boolean) fill(0, 1);
    if (r.op >= ReduceOp::arg_min) positions.assign(static_cast<size_t>(kept), 0);
  }

  void add(size_t at, double value, int64_t position) {
    double& old = reals[at];
    switch (reduction.op) {
      case ReduceOp::sum: old += value; break;
      case ReduceOp::product: old *= value; break;
      case ReduceOp::min: old = apply(ExprOp::min, old, value); break;
      case ReduceOp::max: old = apply(ExprOp::max, old, value); break;
      default: find(at, position, position == 0 || better(value, old), value == old || (std::isnan(value) && std::isnan(old)), [&] { old = value; });
    }
  }
  void add(size_t at, int64_t value, int64_t position, DType dtype) {
    int64_t& old = integers[at];
    switch (reduction.op) {
      case ReduceOp::sum: old = apply(ExprOp::add, dtype, old, value); break;
      case ReduceOp::product: old = apply(ExprOp::mul, dtype, old, value); break;
      case ReduceOp::min: old = apply(ExprOp::min, dtype, old, value); break;
      case ReduceOp::max: old = apply(ExprOp::max, dtype, old, value); break;
      default: {
        const bool smaller = reduction.op == ReduceOp::arg_min || reduction.op == ReduceOp::arg_min_last;
        find(at, position, position == 0 || apply(ExprOp::less, dtype, smaller ? value : old, smaller ? old : value) != 0, value == old, [&] { old = value; });
      }
    }
  }

 private:
  bool better(double value, double old) const {
    if (std::isnan(old)) return false;  // NaN wins, as in numpy
    if (std::isnan(value)) return true;
    return reduction.op == ReduceOp::arg_min || reduction.op == ReduceOp::arg_min_last ? value < old : value > old;
  }
  template <class F>
  void find(size_t at, int64_t position, bool is_better, bool ties, F&& take) {
    const bool last = reduction.op == ReduceOp::arg_min_last || reduction.op == ReduceOp::arg_max_last;
    if (!is_better && !(ties && last)) return;
    positions[at] = position;
    take();
  }
};

}  // namespace

void Machine::run(const Nest& nest) {
  const std::vector<int64_t> extents = evaluated(nest.space, sizes);
  const std::vector<int64_t> kept(extents.begin(), extents.end() - nest.reduced_rank), inner(extents.end() - nest.reduced_rank, extents.end());
  const int64_t kept_count = element_count(kept), inner_count = element_count(inner);
  std::vector<Array> reduced;

  std::vector<double> sums;
  if (classify(nest) == NestKind::contract && contract_strided(*this, nest, extents, sums)) {
    Array result{nest.reductions[0].dtype, {kept_count}, std::move(sums), {}};
    for (double& value : result.reals) value = rounded(result.dtype, value);
    reduced.push_back(std::move(result));
  } else if (!nest.reductions.empty()) {
    Evaluator evaluator(*this, nest.accesses, nest.nodes, extents);
    std::vector<ExprId> roots;
    std::vector<Accumulator> accumulators;
    for (const Reduction& reduction : nest.reductions) {
      roots.push_back(reduction.value);
      accumulators.emplace_back(reduction, nest.nodes[static_cast<size_t>(reduction.value)].dtype, kept_count);
    }
    const auto wanted = evaluator.needed_by(roots);
    for (int64_t first = 0; first < kept_count * inner_count; first += Evaluator::block) {
      const int64_t count = std::min(Evaluator::block, kept_count * inner_count - first);
      evaluator.evaluate(first, count, wanted);
      for (Accumulator& accumulator : accumulators)
        for (int64_t p = 0; p < count; ++p) {
          const size_t at = static_cast<size_t>((first + p) / inner_count);
          const int64_t position = (first + p) % inner_count;
          if (accumulator.real) accumulator.add(at, evaluator.reals(accumulator.reduction.value)[static_cast<size_t>(p)], position);
          else accumulator.add(at, evaluator.integers(accumulator.reduction.value)[static_cast<size_t>(p)], position, nest.nodes[static_cast<size_t>(accumulator.reduction.value)].dtype);
        }
    }
    for (Accumulator& accumulator : accumulators) {
      Array result{accumulator.reduction.dtype, {kept_count}, {}, {}};
      if (accumulator.reduction.op >= ReduceOp::arg_min) result.integers = std::move(accumulator.positions);
      else if (accumulator.real) result.reals = std::move(accumulator.reals);
      else result.integers = std::move(accumulator.integers);
      for (double& value : result.reals) value = rounded(result.dtype, value);
      for (int64_t& value : result.integers) value = wrap_to(result.dtype, value);
      reduced.push_back(std::move(result));
    }
  }

  // The space of the stores: kept coordinates, the reduced ones frozen at 0 (extent 1).
  std::vector<int64_t> outer = kept;
  outer.resize(extents.size(), 1);
  Evaluator evaluator(*this, nest.accesses, nest.nodes, outer);
  evaluator.reduced = std::move(reduced);
  std::vector<ExprId> roots;
  struct Goal { Array& array; tile::CoordMap<int64_t> map; std::vector<int64_t> strides; };
  std::vector<Goal> goals;
  for (const Store& store : nest.outputs) {
    roots.push_back(store.value);
    Array& array = create(store.tensor);
    goals.push_back({array, evaluate(store.map, sizes), row_major_strides(array.dims)});
  }
  const auto wanted = evaluator.needed_by(roots);
  for (int64_t first = 0; first < kept_count; first += Evaluator::block) {
    const int64_t count = std::min(Evaluator::block, kept_count - first);
    evaluator.evaluate(first, count, wanted);
    for (size_t k = 0; k < goals.size(); ++k) {
      std::vector<int64_t> lower(goals[k].array.dims.size());
      for (int64_t p = 0; p < count; ++p) {
        const auto& point = evaluator.coordinates(static_cast<int>(p));
        if (!goals[k].map.lower(std::span(point.data(), kept.size()), lower)) continue;
        int64_t address = 0;
        for (size_t axis = 0; axis < lower.size(); ++axis) {
          if (lower[axis] < 0 || lower[axis] >= goals[k].array.dims[axis]) fail(ErrorKind::internal, "'{}' stores outside its tensor", nest.source);
          address += lower[axis] * goals[k].strides[axis];
        }
        goals[k].array.real() ? goals[k].array.reals[static_cast<size_t>(address)] = evaluator.reals(roots[k])[static_cast<size_t>(p)]
                              : goals[k].array.integers[static_cast<size_t>(address)] = evaluator.integers(roots[k])[static_cast<size_t>(p)];
      }
    }
  }
}

void Machine::run(const Scatter& scatter) {
  const std::vector<int64_t> extents = evaluated(scatter.space, sizes);
  const int64_t points = element_count(extents);
  Array& output = create(scatter.output);
  const Array& initial = get(scatter.initial);
  output.reals = initial.reals;
  output.integers = initial.integers;
  Evaluator evaluator(*this, scatter.accesses, scatter.nodes, extents);
  std::vector<ExprId> roots = scatter.indirect;
  roots.push_back(scatter.value);
  const auto wanted = evaluator.needed_by(roots);
  const auto map = evaluate(scatter.map, sizes);
  const std::vector<int64_t> strides = row_major_strides(output.dims);
  std::vector<int64_t> upper(extents.size() + scatter.indirect.size()), lower(output.dims.size());
  constexpr ExprOp operations[] = {ExprOp::add, ExprOp::add, ExprOp::mul, ExprOp::min, ExprOp::max};
  const ExprOp operation = operations[static_cast<size_t>(scatter.combine)];
  for (int64_t first = 0; first < points; first += Evaluator::block) {
    const int64_t count = std::min(Evaluator::block, points - first);
    evaluator.evaluate(first, count, wanted);
    for (int64_t p = 0; p < count; ++p) {
      const size_t at = static_cast<size_t>(p);
      std::copy(evaluator.coordinates(static_cast<int>(p)).begin(), evaluator.coordinates(static_cast<int>(p)).end(), upper.begin());
      for (size_t k = 0; k < scatter.indirect.size(); ++k) upper[extents.size() + k] = evaluator.integers(scatter.indirect[k])[at];
      bool valid = map.lower(upper, lower);
      int64_t address = 0;
      for (size_t axis = 0; axis < lower.size(); ++axis) {
        valid &= lower[axis] >= 0 && lower[axis] < output.dims[axis];
        address += lower[axis] * strides[axis];
      }
      if (!valid) continue;
      const bool assign = scatter.combine == Scatter::Combine::assign;
      if (output.real()) {
        double& old = output.reals[static_cast<size_t>(address)];
        const double value = evaluator.reals(scatter.value)[at];
        old = assign ? value : rounded(output.dtype, apply(operation, old, value));
      } else {
        int64_t& old = output.integers[static_cast<size_t>(address)];
        const int64_t value = evaluator.integers(scatter.value)[at];
        old = assign ? value : wrap_to(output.dtype, apply(operation, output.dtype, old, value));
      }
    }
  }
}

}  // namespace tilewright::pattern
