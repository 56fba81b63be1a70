#include "pattern/symbolic.h"

#include <cmath>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/interpret.h"

namespace tilewright::pattern {
namespace {

constexpr int64_t point_limit = 1 << 14;

/// A value at one point: an integer expression, or a float that is known.
struct Symbolic {
  std::optional<Dim> integer;
  std::optional<double> real;
};

/// Sizes are at least 1.
const Bounds& sizes_are_positive() {
  static const Bounds bounds{{}, 1};
  return bounds;
}

std::optional<bool> decide(ExprOp op, const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return apply(op, DType::i64, a.constant(), b.constant()) != 0;
  const Bounds& bounds = sizes_are_positive();
  switch (op) {
    case ExprOp::equal:
      if (a == b) return true;
      if (proven_less(a, b, bounds) || proven_less(b, a, bounds)) return false;
      return std::nullopt;
    case ExprOp::less:
      if (proven_less(a, b, bounds)) return true;
      if (proven_nonnegative(a - b, bounds)) return false;
      return std::nullopt;
    default:
      if (proven_nonnegative(b - a, bounds)) return true;
      if (proven_less(b, a, bounds)) return false;
      return std::nullopt;
  }
}

std::optional<Dim> combine(ExprOp op, DType dtype, const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return Dim(wrap_to(dtype, apply(op, dtype, a.constant(), b.constant())));
  const Bounds& bounds = sizes_are_positive();
  switch (op) {
    case ExprOp::neg: return -a;
    case ExprOp::add: return a + b;
    case ExprOp::sub: return a - b;
    case ExprOp::mul: return a * b;
    case ExprOp::min: return min(a, b);
    case ExprOp::max: return max(a, b);
    case ExprOp::abs: return proven_nonnegative(a, bounds) ? std::optional<Dim>(a) : std::nullopt;
    case ExprOp::div: case ExprOp::fmod:  // truncation is floor where nothing is negative
      if (!proven_nonnegative(a, bounds) || !proven_less(0, b, bounds)) return std::nullopt;
      return op == ExprOp::div ? a / b : a % b;
    case ExprOp::floor_div: return proven_less(0, b, bounds) ? std::optional<Dim>(a / b) : std::nullopt;
    case ExprOp::mod: return proven_less(0, b, bounds) ? std::optional<Dim>(a % b) : std::nullopt;
    case ExprOp::equal: case ExprOp::less: case ExprOp::less_equal: {
      const auto known = decide(op, a, b);
      return known ? std::optional<Dim>(Dim(int64_t{*known})) : std::nullopt;
    }
    case ExprOp::logical_not: return std::nullopt;
    default: return std::nullopt;
  }
}

class NestValues {
 public:
  NestValues(const Nest& nest, const Program& program, const std::map<TensorId, Dims>& known) : nest_(nest), program_(program), known_(known) {}

  /// All nodes at one point; nothing when an access is out of the ordinary.
  std::vector<Symbolic> at(const std::vector<int64_t>& point, const std::vector<Symbolic>& reduced) const {
    std::vector<Symbolic> values(nest_.nodes.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = value(nest_.nodes[i], point, reduced, values);
    return values;
  }

 private:
  Symbolic value(const ExprNode& node, const std::vector<int64_t>& point, const std::vector<Symbolic>& reduced, const std::vector<Symbolic>& values) const {
    const auto arg = [&](size_t k) -> const Symbolic& { return values[static_cast<size_t>(node.args[k])]; };
    switch (node.op) {
      case ExprOp::constant: return is_float(node.dtype) ? Symbolic{{}, node.real} : Symbolic{Dim(node.integer), {}};
      case ExprOp::index: return {Dim(point[static_cast<size_t>(node.integer)]), {}};
      case ExprOp::size: return {node.dim, {}};
      case ExprOp::reduced: return static_cast<size_t>(node.integer) < reduced.size() ? reduced[static_cast<size_t>(node.integer)] : Symbolic{};
      case ExprOp::load: return load(nest_.accesses[static_cast<size_t>(node.integer)], point, values);
      case ExprOp::select:
        if (!arg(0).integer || !arg(0).integer->is_constant()) return {};
        return arg(0).integer->constant() != 0 ? arg(1) : arg(2);
      case ExprOp::cast: case ExprOp::cast_wrap: return convert(node, arg(0));
      case ExprOp::logical_not: return arg(0).integer && arg(0).integer->is_constant() ? Symbolic{Dim(int64_t{arg(0).integer->constant() == 0}), {}} : Symbolic{};
      default: break;
    }
    if (node.args.empty() || info(node.op).kind == ExprClass::convert) return {};
    const Symbolic& a = arg(0);
    const Symbolic& b = node.args.size() > 1 ? arg(1) : a;
    const DType operand = nest_.nodes[static_cast<size_t>(node.args[0])].dtype;
    if (is_float(operand)) {
      if (!a.real || !b.real) return {};
      const double result = apply(node.op, *a.real, *b.real);
      return is_float(node.dtype) ? Symbolic{{}, round_to(node.dtype, result)} : Symbolic{Dim(int64_t{result != 0}), {}};
    }
    if (!a.integer || !b.integer) return {};
    return {combine(node.op, operand, *a.integer, *b.integer), {}};
  }

  Symbolic convert(const ExprNode& node, const Symbolic& from) const {
    if (is_float(node.dtype)) {
      if (from.real) return {{}, round_to(node.dtype, *from.real)};
      if (from.integer && from.integer->is_constant()) return {{}, round_to(node.dtype, static_cast<double>(from.integer->constant()))};
      return {};
    }
    if (from.real) return std::abs(*from.real) < 0x1p62 ? Symbolic{Dim(wrap_to(node.dtype, static_cast<int64_t>(*from.real))), {}} : Symbolic{};
    if (!from.integer) return {};
    if (from.integer->is_constant()) return {Dim(node.dtype == DType::boolean ? int64_t{from.integer->constant() != 0} : wrap_to(node.dtype, from.integer->constant())), {}};
    const bool wide = node.dtype == DType::i64 || node.dtype == DType::u64 || node.dtype == DType::i32 || node.dtype == DType::u32;  // sizes fit 32 bits where a model says so
    if (wide) return from;
    if (node.dtype == DType::boolean && proven_less(0, *from.integer, sizes_are_positive())) return {Dim(1), {}};
    return {};
  }

  Symbolic load(const Access& access, const std::vector<int64_t>& point, const std::vector<Symbolic>& values) const {
    std::vector<int64_t> upper = point;
    for (const ExprId id : access.indirect) {
      const Symbolic& index = values[static_cast<size_t>(id)];
      if (!index.integer || !index.integer->is_constant()) return {};
      upper.push_back(index.integer->constant());
    }
    std::vector<int64_t> dims;
    for (const Dim& dim : program_.tensor(access.tensor).type.dims) {
      if (!dim.is_constant()) return {};
      dims.push_back(dim.constant());
    }
    const auto map = evaluate(access.map, {});
    std::vector<int64_t> lower(dims.size());
    bool valid = map.lower(upper, lower);
    int64_t address = 0;
    for (size_t axis = 0; axis < dims.size(); ++axis) {
      valid &= lower[axis] >= 0 && lower[axis] < dims[axis];
      address = address * dims[axis] + lower[axis];
    }
    if (!valid) return access.fill ? values[static_cast<size_t>(*access.fill)] : Symbolic{};
    if (const auto& constant = program_.tensor(access.tensor).constant)
      if (is_float(constant->dtype())) return {{}, constant->float_at(address)};
    const auto found = known_.find(access.tensor);
    if (found == known_.end() || static_cast<size_t>(address) >= found->second.size()) return {};
    return {found->second[static_cast<size_t>(address)], {}};
  }

  const Nest& nest_;
  const Program& program_;
  const std::map<TensorId, Dims>& known_;
};

std::optional<Symbolic> reduce(const Nest& nest, const Reduction& reduction, const std::vector<std::vector<Symbolic>>& points) {
  const DType dtype = nest.nodes[static_cast<size_t>(reduction.value)].dtype;
  if (is_float(dtype) || points.empty() || reduction.op >= ReduceOp::arg_min) return std::nullopt;
  constexpr ExprOp operations[] = {ExprOp::add, ExprOp::mul, ExprOp::min, ExprOp::max};
  std::optional<Dim> total;
  for (const auto& point : points) {
    const auto& value = point[static_cast<size_t>(reduction.value)].integer;
    if (!value) return std::nullopt;
    total = total ? combine(operations[static_cast<size_t>(reduction.op)], dtype, *total, *value) : value;
    if (!total) return std::nullopt;
  }
  return Symbolic{total, {}};
}

bool maps_have_symbols(const Nest& nest) {
  Nest shape = nest;  // the expressions may mention sizes, the maps may not
  for (ExprNode& node : shape.nodes) node.dim = 0;
  return !symbols_of(shape).empty();
}

bool step(std::vector<int64_t>& point, const std::vector<int64_t>& extents, size_t begin, size_t end) {
  for (size_t axis = end; axis-- > begin;) {
    if (++point[axis] < extents[axis]) return true;
    point[axis] = 0;
  }
  return false;
}

}  // namespace

std::optional<Dims> evaluate_contents(const Program& program, std::map<TensorId, Dims> known, TensorId wanted) {
  for (const Pattern& pattern : program.patterns)  // points are enumerated: maps that depend on named sizes cannot be
    if (const Nest* nest = std::get_if<Nest>(&pattern); nest != nullptr && maps_have_symbols(*nest)) return std::nullopt;
  std::map<TensorId, std::vector<std::optional<Dim>>> written;
  for (const Pattern& pattern : program.patterns) {
    const Nest* nest = std::get_if<Nest>(&pattern);
    if (nest == nullptr || nest->outputs.size() != 1) return std::nullopt;
    std::vector<int64_t> extents;
    int64_t count = 1;
    for (const Dim& dim : nest->space) {
      if (!dim.is_constant()) return std::nullopt;
      extents.push_back(dim.constant());
      if (__builtin_mul_overflow(count, extents.back(), &count) || count > point_limit) return std::nullopt;
    }
    const Store& store = nest->outputs[0];
    const Type& type = program.tensor(store.tensor).type;
    std::vector<int64_t> dims;
    for (const Dim& dim : type.dims) {
      if (!dim.is_constant()) return std::nullopt;
      dims.push_back(dim.constant());
    }
    if (is_float(type.dtype)) return std::nullopt;
    auto& elements = written[store.tensor];
    elements.resize(static_cast<size_t>(element_count(dims)));
    const size_t kept_rank = extents.size() - static_cast<size_t>(nest->reduced_rank);
    const auto map = evaluate(store.map, {});
    const NestValues values(*nest, program, known);
    std::vector<int64_t> point(extents.size(), 0);
    if (count > 0) do {
        std::vector<Symbolic> reduced;
        if (!nest->reductions.empty()) {
          std::vector<std::vector<Symbolic>> points;
          std::vector<int64_t> inner = point;
          do points.push_back(values.at(inner, {}));
          while (step(inner, extents, kept_rank, extents.size()));
          for (const Reduction& reduction : nest->reductions) {
            const auto result = reduce(*nest, reduction, points);
            if (!result) return std::nullopt;
            reduced.push_back(*result);
          }
        }
        std::vector<int64_t> lower(dims.size());
        if (!map.lower(std::span(point.data(), kept_rank), lower)) continue;
        int64_t address = 0;
        for (size_t axis = 0; axis < dims.size(); ++axis) address = address * dims[axis] + lower[axis];
        elements[static_cast<size_t>(address)] = values.at(point, reduced)[static_cast<size_t>(store.value)].integer;
      } while (step(point, extents, 0, kept_rank));
    Dims complete;
    for (const auto& element : elements)
      if (element) complete.push_back(*element);
    if (complete.size() == elements.size()) known[store.tensor] = std::move(complete);
  }
  const auto found = known.find(wanted);
  if (found == known.end()) return written.count(wanted) && written[wanted].empty() ? std::optional<Dims>(Dims{}) : std::nullopt;
  return found->second;
}

}  // namespace tilewright::pattern
