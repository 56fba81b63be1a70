#include "pattern/symbolic.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/interpret_address.h"
#include "pattern/interpret_scalar.h"

namespace tilewright::pattern {
namespace {

constexpr int64_t point_limit = 1 << 14;

/// A value at one point: an integer expression (of float dtype too, when the float is an integer), or a float that is known.
struct Symbolic {
  std::optional<Dim> integer;
  std::optional<double> real;

  std::optional<Dim> as_integer() const {
    if (integer || !real || *real != std::trunc(*real) || std::abs(*real) >= 0x1p53) return integer;
    return Dim(static_cast<int64_t>(*real));
  }
  bool is_constant() const { return real || (integer && integer->is_constant()); }
};

Symbolic of_integer(std::optional<Dim> value) { return {std::move(value), {}}; }
Symbolic of_real(double value) { return {{}, value}; }
Symbolic of_bool(std::optional<bool> value) { return value ? of_integer(Dim(int64_t{*value})) : Symbolic{}; }

/// Proofs about sizes: all named ones are at least 1 but those that may be 0.
class Proof {
 public:
  explicit Proof(const std::set<std::string>& possibly_zero) {
    // s = t - 1 with t at least 1.
    for (const std::string& name : possibly_zero) shifted_[name] = Dim::symbol(name) - 1;
  }
  bool nonnegative(const Dim& d) const { return proven_nonnegative(shifted_.empty() ? d : d.substitute(shifted_), Bounds{{}, 1}); }
  bool positive(const Dim& d) const { return nonnegative(d - 1); }

  std::optional<bool> compare(ExprOp op, const Dim& a, const Dim& b) const {
    if (op == ExprOp::equal) {
      if (a == b) return true;
      return positive(a - b) || positive(b - a) ? std::optional(false) : std::nullopt;
    }
    const Dim gap = op == ExprOp::less ? b - a - 1 : b - a;
    if (nonnegative(gap)) return true;
    return nonnegative(-gap - 1) ? std::optional(false) : std::nullopt;
  }

 private:
  std::map<std::string, Dim> shifted_;
};

/// Integer arithmetic on sizes. The results of the model's own types are taken not to overflow.
Symbolic combine(const Proof& proof, ExprOp op, const Dim& a, const Dim& b) {
  switch (op) {
    case ExprOp::floor:
    case ExprOp::ceil:
    case ExprOp::trunc:
    case ExprOp::round_even: return of_integer(a);
    case ExprOp::neg: return of_integer(-a);
    case ExprOp::add: return of_integer(a + b);
    case ExprOp::sub: return of_integer(a - b);
    case ExprOp::mul: return of_integer(a * b);
    case ExprOp::min: return of_integer(proof.nonnegative(b - a) ? a : proof.nonnegative(a - b) ? b : min(a, b));
    case ExprOp::max: return of_integer(proof.nonnegative(b - a) ? b : proof.nonnegative(a - b) ? a : max(a, b));
    case ExprOp::abs: return proof.nonnegative(a) ? of_integer(a) : Symbolic{};
    case ExprOp::sign: return proof.positive(a) ? of_integer(1) : Symbolic{};
    case ExprOp::div:
    case ExprOp::fmod:  // truncation is floor where nothing is negative
      if (!proof.nonnegative(a) || !proof.positive(b)) return {};
      return of_integer(op == ExprOp::div ? a / b : a % b);
    case ExprOp::floor_div: return proof.positive(b) ? of_integer(a / b) : Symbolic{};
    case ExprOp::mod: return proof.positive(b) ? of_integer(a % b) : Symbolic{};
    case ExprOp::equal:
    case ExprOp::less:
    case ExprOp::less_equal: return of_bool(proof.compare(op, a, b));
    default: return {};
  }
}

/// A nest whose space is constant, ready to be evaluated point by point.
class NestValues {
 public:
  NestValues(const Nest& nest, const Program& program, const std::map<TensorId, Dims>& known, const Proof& proof) : nest_(nest), proof_(proof) {
    for (const Access& access : nest.accesses) {
      const TensorInfo& info = program.tensor(access.tensor);
      const auto found = known.find(access.tensor);
      readers_.push_back(
          {&access, evaluate(access.map, {}), evaluate(info.type.dims, {}), info.constant.get(), found == known.end() ? nullptr : &found->second});
    }
  }

  std::vector<Symbolic> at(const std::vector<int64_t>& point, const std::vector<Symbolic>& reduced) const {
    std::vector<Symbolic> values(nest_.nodes.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = value(nest_.nodes[i], point, reduced, values);
    return values;
  }

  Symbolic apply_to(const ExprNode& node, DType operands, const Symbolic& a, const Symbolic& b) const {
    if (is_float(operands) && a.real && b.real) {
      const double result = apply(node.op, *a.real, *b.real);
      return is_float(node.dtype) ? of_real(round_to(node.dtype, result)) : of_bool(result != 0);
    }
    const auto x = a.as_integer(), y = b.as_integer();
    if (!x || !y) return {};
    if (!is_float(operands)) {
      if (x->is_constant() && y->is_constant()) return of_integer(Dim(wrap_to(node.dtype, apply(node.op, operands, x->constant(), y->constant()))));
      return combine(proof_, node.op, *x, *y);
    }
    if (node.op != ExprOp::div) return combine(proof_, node.op, *x, *y);
    // A float quotient is an integer only where the division leaves nothing.
    if (!proof_.positive(*y)) return {};
    const Dim quotient = *x / *y;
    return quotient * *y == *x ? of_integer(quotient) : Symbolic{};
  }

 private:
  struct Reader {
    const Access* access;
    tile::CoordMap<int64_t> map;
    std::vector<int64_t> dims;
    const Tensor* constant;
    const Dims* contents;
  };

  Symbolic value(const ExprNode& node, const std::vector<int64_t>& point, const std::vector<Symbolic>& reduced, const std::vector<Symbolic>& values) const {
    const auto arg = [&](size_t k) -> const Symbolic& { return values[static_cast<size_t>(node.args[k])]; };
    const auto dtype_of = [&](size_t k) { return nest_.nodes[static_cast<size_t>(node.args[k])].dtype; };
    switch (node.op) {
      case ExprOp::constant: return is_float(node.dtype) ? of_real(node.real) : of_integer(Dim(node.integer));
      case ExprOp::index: return of_integer(Dim(point[static_cast<size_t>(node.integer)]));
      case ExprOp::size: return of_integer(node.dim);
      case ExprOp::reduced: return static_cast<size_t>(node.integer) < reduced.size() ? reduced[static_cast<size_t>(node.integer)] : Symbolic{};
      case ExprOp::load: return load(readers_[static_cast<size_t>(node.integer)], point, values);
      case ExprOp::select:
        if (!arg(0).is_constant()) return {};
        return arg(0).integer->constant() != 0 ? arg(1) : arg(2);
      case ExprOp::cast:
      case ExprOp::cast_wrap: return convert(node, dtype_of(0), arg(0));
      default: break;
    }
    if (info(node.op).kind == ExprClass::convert) return {};
    if (node.op == ExprOp::pow && is_float(dtype_of(0)) != is_float(dtype_of(1))) return {};
    return apply_to(node, dtype_of(0), arg(0), node.args.size() > 1 ? arg(1) : arg(0));
  }

  Symbolic convert(const ExprNode& node, DType from_dtype, const Symbolic& from) const {
    if (from.is_constant()) {
      if (is_float(node.dtype)) return of_real(round_to(node.dtype, from.real ? *from.real : to_real(from.integer->constant(), from_dtype)));
      if (from.real) return of_integer(Dim(to_integer(*from.real, node.dtype, node.op == ExprOp::cast_wrap)));
      const int64_t value = from.integer->constant();
      return of_integer(Dim(node.op == ExprOp::cast_wrap ? wrap_to(node.dtype, value) : clamp_integer(value, from_dtype, node.dtype)));
    }
    if (!from.integer) return {};
    // Sizes fit the type where a model keeps them in at least 24 bits.
    if (node.dtype == DType::boolean) return proof_.positive(*from.integer) ? of_integer(1) : Symbolic{};
    return bits_of(node.dtype) >= 32 ? from : Symbolic{};
  }

  Symbolic load(const Reader& reader, const std::vector<int64_t>& point, const std::vector<Symbolic>& values) const {
    const Access& access = *reader.access;
    const auto outside = [&] { return access.fill ? values[static_cast<size_t>(*access.fill)] : Symbolic{}; };
    std::vector<int64_t> upper = point;
    for (size_t k = 0; k < access.indirect.size(); ++k) {
      const Symbolic& index = values[static_cast<size_t>(access.indirect[k])];
      if (!index.is_constant()) return {};
      const int64_t extent = reader.map.extent_in(static_cast<int>(point.size() + k));
      upper.push_back(index.integer->constant());
      if (upper.back() >= 0 && upper.back() < extent) continue;
      if (access.fill || extent <= 0) return outside();
      upper.back() = std::clamp<int64_t>(upper.back(), 0, extent - 1);
    }
    std::vector<int64_t> lower(reader.dims.size());
    bool valid = reader.map.lower(upper, lower);
    int64_t address = 0;
    for (size_t axis = 0; axis < reader.dims.size(); ++axis) {
      valid = valid && lower[axis] >= 0 && lower[axis] < reader.dims[axis];
      if (valid) address = address * reader.dims[axis] + lower[axis];
    }
    if (!valid) return outside();
    if (reader.contents != nullptr)
      return static_cast<size_t>(address) < reader.contents->size() ? of_integer((*reader.contents)[static_cast<size_t>(address)]) : Symbolic{};
    if (reader.constant == nullptr) return {};
    return is_float(reader.constant->dtype()) ? of_real(reader.constant->float_at(address)) : of_integer(Dim(reader.constant->int_at(address)));
  }

  const Nest& nest_;
  const Proof& proof_;
  std::vector<Reader> readers_;
};

bool step(std::vector<int64_t>& point, const std::vector<int64_t>& extents, size_t begin, size_t end) {
  for (size_t axis = end; axis-- > begin;) {
    if (++point[axis] < extents[axis]) return true;
    point[axis] = 0;
  }
  return false;
}

/// The reductions at one kept point.
std::vector<Symbolic> reduce(const Nest& nest, const NestValues& values, std::vector<int64_t> point, const std::vector<int64_t>& extents) {
  const size_t kept_rank = extents.size() - static_cast<size_t>(nest.reduced_rank);
  const bool empty = std::find(extents.begin() + static_cast<std::ptrdiff_t>(kept_rank), extents.end(), 0) != extents.end();
  std::vector<Symbolic> totals(nest.reductions.size());
  bool first = true;
  if (!empty) do {
      const std::vector<Symbolic> at = values.at(point, {});
      for (size_t i = 0; i < totals.size(); ++i) {
        const Reduction& reduction = nest.reductions[i];
        if (reduction.op >= ReduceOp::arg_min) continue;
        constexpr ExprOp operations[] = {ExprOp::add, ExprOp::mul, ExprOp::min, ExprOp::max};
        ExprNode node;
        node.op = operations[static_cast<size_t>(reduction.op)];
        node.dtype = nest.nodes[static_cast<size_t>(reduction.value)].dtype;
        const Symbolic& value = at[static_cast<size_t>(reduction.value)];
        totals[i] = first ? value : values.apply_to(node, node.dtype, totals[i], value);
      }
      first = false;
    } while (step(point, extents, kept_rank, extents.size()));
  if (empty)
    for (size_t i = 0; i < totals.size(); ++i) {
      const bool product = nest.reductions[i].op == ReduceOp::product;
      if (product || nest.reductions[i].op == ReduceOp::sum) totals[i] = of_integer(Dim(int64_t{product}));
    }
  return totals;
}

bool constant_dims(const Dims& dims) {
  return std::all_of(dims.begin(), dims.end(), [](const Dim& d) { return d.is_constant(); });
}

/// Whether points can be enumerated: a small constant space, and maps and tensors without named sizes.
bool can_enumerate(const Nest& nest, const Program& program) {
  Nest maps = nest;  // the expressions may mention sizes
  for (ExprNode& node : maps.nodes) node.dim = 0;
  if (nest.outputs.size() != 1 || !symbols_of(maps).empty()) return false;
  int64_t count = 1;
  for (const Dim& dim : nest.space)
    if (dim.constant() < 0 || __builtin_mul_overflow(count, dim.constant(), &count) || count > point_limit) return false;
  const auto constant = [&](TensorId id) { return constant_dims(program.tensor(id).type.dims); };
  return constant(nest.outputs[0].tensor) && std::all_of(nest.accesses.begin(), nest.accesses.end(), [&](const Access& a) { return constant(a.tensor); });
}

}  // namespace

std::optional<Dims> evaluate_contents(const Program& program, std::map<TensorId, Dims> known, TensorId wanted, const std::set<std::string>& possibly_zero) {
  const Proof proof(possibly_zero);
  std::map<TensorId, std::vector<std::optional<Dim>>> written;
  for (const Pattern& pattern : program.patterns) {
    const Nest* nest = std::get_if<Nest>(&pattern);
    if (nest == nullptr || !can_enumerate(*nest, program)) return std::nullopt;
    const std::vector<int64_t> extents = evaluate(nest->space, {});
    const size_t kept_rank = extents.size() - static_cast<size_t>(nest->reduced_rank);
    const Store& store = nest->outputs[0];
    const std::vector<int64_t> dims = evaluate(program.tensor(store.tensor).type.dims, {});
    if (element_count(dims) > point_limit) return std::nullopt;
    auto& elements = written[store.tensor];
    elements.resize(static_cast<size_t>(element_count(dims)));
    const auto map = evaluate(store.map, {});
    const NestValues values(*nest, program, known, proof);
    std::vector<int64_t> point(extents.size(), 0), lower(dims.size());
    const bool any =
        std::find(extents.begin(), extents.begin() + static_cast<std::ptrdiff_t>(kept_rank), 0) == extents.begin() + static_cast<std::ptrdiff_t>(kept_rank);
    if (any) do {
        const std::vector<Symbolic> reduced = reduce(*nest, values, point, extents);
        if (!map.lower(std::span(point.data(), kept_rank), lower)) continue;
        int64_t address = 0;
        for (size_t axis = 0; axis < dims.size(); ++axis) address = address * dims[axis] + lower[axis];
        elements.at(static_cast<size_t>(address)) = values.at(point, reduced)[static_cast<size_t>(store.value)].as_integer();
      } while (step(point, extents, 0, kept_rank));
    if (!std::all_of(elements.begin(), elements.end(), [](const auto& e) { return e.has_value(); })) continue;
    Dims complete;
    for (const auto& element : elements) complete.push_back(*element);
    known[store.tensor] = std::move(complete);
  }
  const auto found = known.find(wanted);
  return found == known.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace tilewright::pattern
