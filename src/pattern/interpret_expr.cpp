#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/interpret.h"

namespace tilewright::pattern {

double apply(ExprOp op, double a, double b) {
  switch (op) {
    case ExprOp::neg: return -a;
    case ExprOp::abs: return std::abs(a);
    case ExprOp::sign: return a > 0 ? 1 : a < 0 ? -1 : a;
    case ExprOp::floor: return std::floor(a);
    case ExprOp::ceil: return std::ceil(a);
    case ExprOp::round_even: return std::nearbyint(a);
    case ExprOp::trunc: return std::trunc(a);
    case ExprOp::sqrt: return std::sqrt(a);
    case ExprOp::exp: return std::exp(a);
    case ExprOp::log: return std::log(a);
    case ExprOp::sin: return std::sin(a);
    case ExprOp::cos: return std::cos(a);
    case ExprOp::tan: return std::tan(a);
    case ExprOp::asin: return std::asin(a);
    case ExprOp::acos: return std::acos(a);
    case ExprOp::atan: return std::atan(a);
    case ExprOp::sinh: return std::sinh(a);
    case ExprOp::cosh: return std::cosh(a);
    case ExprOp::tanh: return std::tanh(a);
    case ExprOp::asinh: return std::asinh(a);
    case ExprOp::acosh: return std::acosh(a);
    case ExprOp::atanh: return std::atanh(a);
    case ExprOp::erf: return std::erf(a);
    case ExprOp::sigmoid: return a >= 0 ? 1 / (1 + std::exp(-a)) : std::exp(a) / (1 + std::exp(a));
    case ExprOp::add: return a + b;
    case ExprOp::sub: return a - b;
    case ExprOp::mul: return a * b;
    case ExprOp::div: return a / b;
    case ExprOp::floor_div: return std::floor(a / b);
    case ExprOp::mod: {
      const double r = std::fmod(a, b);
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case ExprOp::fmod: return std::fmod(a, b);
    case ExprOp::pow: return std::pow(a, b);
    case ExprOp::min: return std::isnan(a) || std::isnan(b) ? std::numeric_limits<double>::quiet_NaN() : std::min(a, b);
    case ExprOp::max: return std::isnan(a) || std::isnan(b) ? std::numeric_limits<double>::quiet_NaN() : std::max(a, b);
    case ExprOp::equal: return a == b;
    case ExprOp::less: return a < b;
    case ExprOp::less_equal: return a <= b;
    case ExprOp::is_nan: return std::isnan(a);
    case ExprOp::is_inf: return std::isinf(a);
    default: fail(ErrorKind::internal, "expression '{}' has no meaning for floats", info(op).name);
  }
}

namespace {

uint64_t bits(int64_t v) { return static_cast<uint64_t>(v); }
int64_t back(uint64_t v) { return static_cast<int64_t>(v); }

int64_t integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
  uint64_t result = 1, factor = bits(base);
  for (; exponent > 0; exponent >>= 1, factor *= factor)
    if (exponent & 1) result *= factor;
  return back(result);
}

/// Width-independent part: the caller wraps the result to the dtype.
int64_t apply_unsigned(ExprOp op, uint64_t a, uint64_t b) {
  switch (op) {
    case ExprOp::div: case ExprOp::floor_div: return b == 0 ? 0 : back(a / b);
    case ExprOp::mod: case ExprOp::fmod: return b == 0 ? 0 : back(a % b);
    case ExprOp::min: return back(std::min(a, b));
    case ExprOp::max: return back(std::max(a, b));
    case ExprOp::less: return a < b;
    case ExprOp::less_equal: return a <= b;
    case ExprOp::shift_right: return b >= 64 ? 0 : back(a >> b);
    case ExprOp::sign: return a != 0;
    case ExprOp::abs: return back(a);
    default: fail(ErrorKind::internal, "no unsigned form");
  }
}

}  // namespace

int64_t apply(ExprOp op, DType dtype, int64_t a, int64_t b) {
  if (dtype == DType::u64 || dtype == DType::u32 || dtype == DType::u16 || dtype == DType::u8) {
    switch (op) {
      case ExprOp::div: case ExprOp::floor_div: case ExprOp::mod: case ExprOp::fmod: case ExprOp::min: case ExprOp::max: case ExprOp::less: case ExprOp::less_equal:
      case ExprOp::shift_right: case ExprOp::sign: case ExprOp::abs: return apply_unsigned(op, bits(a), bits(b));
      default: break;
    }
  }
  const bool overflow = b == -1;  // INT64_MIN / -1
  switch (op) {
    case ExprOp::neg: return back(0 - bits(a));
    case ExprOp::abs: return a < 0 ? back(0 - bits(a)) : a;
    case ExprOp::sign: return (a > 0) - (a < 0);
    case ExprOp::floor: case ExprOp::ceil: case ExprOp::round_even: case ExprOp::trunc: return a;
    case ExprOp::logical_not: return a == 0;
    case ExprOp::bit_not: return ~a;
    case ExprOp::add: return back(bits(a) + bits(b));
    case ExprOp::sub: return back(bits(a) - bits(b));
    case ExprOp::mul: return back(bits(a) * bits(b));
    case ExprOp::div: return b == 0 ? 0 : overflow ? back(0 - bits(a)) : a / b;
    case ExprOp::floor_div: return b == 0 ? 0 : overflow ? back(0 - bits(a)) : a / b - (a % b != 0 && (a % b < 0) != (b < 0));
    case ExprOp::mod: {
      if (b == 0 || overflow) return 0;
      const int64_t r = a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case ExprOp::fmod: return b == 0 || overflow ? 0 : a % b;
    case ExprOp::pow: return integer_power(a, b);
    case ExprOp::min: return std::min(a, b);
    case ExprOp::max: return std::max(a, b);
    case ExprOp::bit_and: case ExprOp::logical_and: return a & b;
    case ExprOp::bit_or: case ExprOp::logical_or: return a | b;
    case ExprOp::bit_xor: case ExprOp::logical_xor: return a ^ b;
    case ExprOp::shift_left: return b < 0 || b >= 64 ? 0 : back(bits(a) << b);
    case ExprOp::shift_right: return b < 0 ? 0 : a >> std::min<int64_t>(b, 63);
    case ExprOp::equal: return a == b;
    case ExprOp::less: return a < b;
    case ExprOp::less_equal: return a <= b;
    default: fail(ErrorKind::internal, "expression '{}' has no meaning for integers", info(op).name);
  }
}

Evaluator::Evaluator(Machine& machine, const std::vector<Access>& accesses, const std::vector<ExprNode>& nodes, std::vector<int64_t> extents)
    : machine_(machine), nodes_(nodes), extents_(std::move(extents)), points_(static_cast<size_t>(block), std::vector<int64_t>(extents_.size())), reals_(nodes.size()), integers_(nodes.size()) {
  for (const Access& access : accesses) {
    const Array& array = machine.get(access.tensor);
    bound_.push_back({&access, tilewright::evaluate(access.map, machine.sizes), &array, row_major_strides(array.dims)});
  }
}

std::vector<char> Evaluator::needed_by(const std::vector<ExprId>& roots) const {
  std::vector<char> needed(nodes_.size(), 0);
  for (const ExprId root : roots) needed[static_cast<size_t>(root)] = 1;
  for (size_t i = nodes_.size(); i-- > 0;) {
    if (!needed[i]) continue;
    for (const ExprId id : nodes_[i].args) needed[static_cast<size_t>(id)] = 1;
    if (nodes_[i].op != ExprOp::load) continue;
    const Access& access = *bound_[static_cast<size_t>(nodes_[i].integer)].access;
    for (const ExprId id : access.indirect) needed[static_cast<size_t>(id)] = 1;
    if (access.fill) needed[static_cast<size_t>(*access.fill)] = 1;
  }
  return needed;
}

void Evaluator::evaluate(int64_t first, int64_t count, const std::vector<char>& wanted) {
  first_ = first;
  for (int64_t p = 0; p < count; ++p) {
    std::vector<int64_t>& point = points_[static_cast<size_t>(p)];
    int64_t rest = first + p;
    for (size_t axis = extents_.size(); axis-- > 0; rest /= extents_[axis]) point[axis] = rest % extents_[axis];
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!wanted[i]) continue;
    const ExprNode& node = nodes_[i];
    auto& reals = reals_[i];
    auto& integers = integers_[i];
    is_float(node.dtype) ? reals.resize(static_cast<size_t>(count)) : integers.resize(static_cast<size_t>(count));
    switch (node.op) {
      case ExprOp::constant:
        is_float(node.dtype) ? std::fill(reals.begin(), reals.end(), node.real) : std::fill(integers.begin(), integers.end(), node.integer);
        break;
      case ExprOp::index:
        for (int64_t p = 0; p < count; ++p) integers[static_cast<size_t>(p)] = points_[static_cast<size_t>(p)][static_cast<size_t>(node.integer)];
        break;
      case ExprOp::size: std::fill(integers.begin(), integers.end(), node.dim.evaluate(machine_.sizes)); break;
      case ExprOp::reduced: {
        const Array& results = reduced.at(static_cast<size_t>(node.integer));
        for (int64_t p = 0; p < count; ++p) {
          const size_t at = static_cast<size_t>(first + p), to = static_cast<size_t>(p);
          results.real() ? reals[to] = results.reals[at] : integers[to] = results.integers[at];
        }
        break;
      }
      case ExprOp::load: load(node, static_cast<ExprId>(i), count); break;
      default: info(node.op).kind == ExprClass::convert ? convert(node, static_cast<ExprId>(i), count) : compute(node, static_cast<ExprId>(i), count);
    }
  }
}

void Evaluator::load(const ExprNode& node, ExprId id, int64_t count) {
  const Bound& bound = bound_[static_cast<size_t>(node.integer)];
  const Access& access = *bound.access;
  const bool real = bound.array->real();
  auto& reals = reals_[static_cast<size_t>(id)];
  auto& integers = integers_[static_cast<size_t>(id)];
  std::vector<int64_t> upper(extents_.size() + access.indirect.size()), lower(bound.array->dims.size());
  if (bound.array->count() == 0 && !access.fill) {
    real ? std::fill(reals.begin(), reals.end(), 0.0) : std::fill(integers.begin(), integers.end(), int64_t{0});
    return;
  }
  for (int64_t p = 0; p < count; ++p) {
    const size_t at = static_cast<size_t>(p);
    std::copy(points_[at].begin(), points_[at].end(), upper.begin());
    for (size_t k = 0; k < access.indirect.size(); ++k) upper[extents_.size() + k] = integers_[static_cast<size_t>(access.indirect[k])][at];
    bool valid = bound.map.lower(upper, lower);
    int64_t address = 0;
    for (size_t axis = 0; axis < lower.size() && valid; ++axis) {
      if (lower[axis] < 0 || lower[axis] >= bound.array->dims[axis]) {
        if (access.fill) valid = false;
        else lower[axis] = std::clamp<int64_t>(lower[axis], 0, bound.array->dims[axis] - 1);
      }
      address += lower[axis] * bound.strides[axis];
    }
    if (!valid && !access.fill) fail(ErrorKind::internal, "a padded access of '{}' has no fill", machine_.program.tensor(access.tensor).name);
    if (real) reals[at] = valid ? bound.array->reals[static_cast<size_t>(address)] : reals_[static_cast<size_t>(*access.fill)][at];
    else integers[at] = valid ? bound.array->integers[static_cast<size_t>(address)] : integers_[static_cast<size_t>(*access.fill)][at];
  }
}

void Evaluator::compute(const ExprNode& node, ExprId id, int64_t count) {
  const auto args = [&](size_t k) { return static_cast<size_t>(node.args[k]); };
  const bool real = is_float(nodes_[args(node.op == ExprOp::select ? 1 : 0)].dtype);
  auto& reals = reals_[static_cast<size_t>(id)];
  auto& integers = integers_[static_cast<size_t>(id)];
  const size_t arity = node.args.size();
  for (size_t p = 0; p < static_cast<size_t>(count); ++p) {
    if (node.op == ExprOp::select) {
      const size_t chosen = integers_[args(0)][p] != 0 ? args(1) : args(2);
      real ? reals[p] = reals_[chosen][p] : integers[p] = integers_[chosen][p];
    } else if (node.op == ExprOp::pow && real != is_float(nodes_[args(1)].dtype)) {
      const double a = real ? reals_[args(0)][p] : static_cast<double>(integers_[args(0)][p]);
      const double b = real ? static_cast<double>(integers_[args(1)][p]) : reals_[args(1)][p];
      const double value = std::pow(a, b);
      real ? reals[p] = machine_.rounded(node.dtype, value) : integers[p] = wrap_to(node.dtype, std::abs(value) < 9e18 ? static_cast<int64_t>(value) : 0);
    } else if (real) {
      const double value = apply(node.op, reals_[args(0)][p], arity > 1 ? reals_[args(1)][p] : 0.0);
      is_float(node.dtype) ? reals[p] = machine_.rounded(node.dtype, value) : integers[p] = value != 0;
    } else {
      const DType operand = nodes_[args(0)].dtype;
      integers[p] = wrap_to(node.dtype, apply(node.op, operand, integers_[args(0)][p], arity > 1 ? integers_[args(1)][p] : 0));
    }
  }
}

namespace {

int64_t lowest(DType dtype) { return !is_signed(dtype) ? 0 : static_cast<int64_t>(~uint64_t{0} << (bits_of(dtype) - 1)); }
double largest(DType dtype) { return std::ldexp(1.0, bits_of(dtype) - (is_signed(dtype) ? 1 : 0)); }  // one more than the largest value

/// Float → integer: truncates; NaN is 0. Saturates at the type's limits, or wraps as x86 and ONNX Runtime do.
int64_t to_integer(double value, DType to, bool wrap) {
  if (to == DType::boolean) return value != 0;
  if (std::isnan(value)) return 0;
  const double whole = std::trunc(value);
  if (wrap) return wrap_to(to, std::abs(whole) < 0x1p63 ? static_cast<int64_t>(whole) : INT64_MIN);
  if (whole >= largest(to)) return to == DType::u64 ? -1 : to == DType::i64 ? INT64_MAX : static_cast<int64_t>(largest(to)) - 1;
  if (whole < static_cast<double>(lowest(to))) return lowest(to);
  return to == DType::u64 ? static_cast<int64_t>(static_cast<uint64_t>(whole)) : static_cast<int64_t>(whole);
}

int64_t clamp_integer(int64_t value, DType from, DType to) {
  if (to == DType::boolean) return value != 0;
  if (from == DType::u64 && value < 0) return to == DType::u64 ? value : to == DType::i64 ? INT64_MAX : static_cast<int64_t>(largest(to)) - 1;
  if (to == DType::u64) return std::max<int64_t>(value, 0);
  if (to == DType::i64) return value;
  return std::clamp(value, lowest(to), static_cast<int64_t>(largest(to)) - 1);
}

}  // namespace

void Evaluator::convert(const ExprNode& node, ExprId id, int64_t count) {
  const size_t from = static_cast<size_t>(node.args[0]);
  const DType source = nodes_[from].dtype;
  auto& reals = reals_[static_cast<size_t>(id)];
  auto& integers = integers_[static_cast<size_t>(id)];
  const bool exact = machine_.options.arithmetic == InterpreterOptions::Arithmetic::float64;
  for (size_t p = 0; p < static_cast<size_t>(count); ++p) {
    if (node.op == ExprOp::is_nan || node.op == ExprOp::is_inf) {
      integers[p] = apply(node.op, reals_[from][p], 0.0) != 0;
    } else if (node.op == ExprOp::bitcast) {
      unsigned char bytes[8] = {};
      is_float(source) ? write_float(source, bytes, 0, reals_[from][p]) : write_int(source, bytes, 0, integers_[from][p]);
      is_float(node.dtype) ? reals[p] = read_float(node.dtype, bytes, 0) : integers[p] = read_int(node.dtype, bytes, 0);
    } else if (is_float(node.dtype)) {
      double value = is_float(source) ? reals_[from][p] : source == DType::u64 ? static_cast<double>(bits(integers_[from][p])) : static_cast<double>(integers_[from][p]);
      // Casts to 8 bits and fewer quantise: they are part of what the model says, not rounding noise.
      const bool narrow = size_of(node.dtype) == 1;
      if (narrow) value = round_to(node.dtype, value, node.op != ExprOp::cast_unsaturated);
      else if (!exact) value = machine_.rounded(node.dtype, value);
      reals[p] = value;
    } else if (is_float(source)) {
      integers[p] = to_integer(reals_[from][p], node.dtype, node.op == ExprOp::cast_wrap);
    } else {
      integers[p] = node.dtype == DType::boolean ? integers_[from][p] != 0 : node.op == ExprOp::cast_wrap ? wrap_to(node.dtype, integers_[from][p]) : clamp_integer(integers_[from][p], source, node.dtype);
    }
  }
}

}  // namespace tilewright::pattern
