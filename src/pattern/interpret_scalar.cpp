#include "pattern/interpret_scalar.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "pattern/expr.h"

namespace tilewright::pattern {
namespace {

uint64_t bits(int64_t v) { return static_cast<uint64_t>(v); }
int64_t back(uint64_t v) { return static_cast<int64_t>(v); }

// The two functions below are inlined into a loop per operation, where `op` is a constant and the switch is gone.
#define TILEWRIGHT_ALWAYS_INLINE [[gnu::always_inline]] inline

TILEWRIGHT_ALWAYS_INLINE double real_value(ExprOp op, double a, double b) {
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
    case ExprOp::sigmoid: {
      const double e = std::exp(-std::abs(a));
      return (a < 0 ? e : 1) / (1 + e);
    }
    case ExprOp::is_nan: return std::isnan(a);
    case ExprOp::is_inf: return std::isinf(a);
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
    case ExprOp::min: return a < b || std::isnan(a) ? a : b;
    case ExprOp::max: return a > b || std::isnan(a) ? a : b;
    case ExprOp::equal: return a == b;
    case ExprOp::less: return a < b;
    case ExprOp::less_equal: return a <= b;
    default: fail(ErrorKind::internal, "internal error: expression '{}' has no meaning for floats", info(op).name);
  }
}

int64_t integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
  uint64_t result = 1, factor = bits(base);
  for (; exponent > 0; exponent >>= 1, factor *= factor)
    if (exponent & 1) result *= factor;
  return back(result);
}

/// `is_unsigned` matters for u64 alone: smaller unsigned values are non-negative here.
TILEWRIGHT_ALWAYS_INLINE int64_t integer_value(ExprOp op, bool is_unsigned, int64_t a, int64_t b) {
  switch (op) {
    case ExprOp::neg: return back(0 - bits(a));
    case ExprOp::abs: return a < 0 && !is_unsigned ? back(0 - bits(a)) : a;
    case ExprOp::sign: return is_unsigned ? a != 0 : (a > 0) - (a < 0);
    case ExprOp::floor:
    case ExprOp::ceil:
    case ExprOp::round_even:
    case ExprOp::trunc: return a;
    case ExprOp::logical_not: return a == 0;
    case ExprOp::bit_not: return ~a;
    case ExprOp::add: return back(bits(a) + bits(b));
    case ExprOp::sub: return back(bits(a) - bits(b));
    case ExprOp::mul: return back(bits(a) * bits(b));
    case ExprOp::div:
      if (b == 0) return 0;
      if (is_unsigned) return back(bits(a) / bits(b));
      return b == -1 ? back(0 - bits(a)) : a / b;  // -2^63 / -1 wraps
    case ExprOp::floor_div:
      if (b == 0) return 0;
      if (is_unsigned) return back(bits(a) / bits(b));
      return b == -1 ? back(0 - bits(a)) : a / b - (a % b != 0 && (a < 0) != (b < 0));
    case ExprOp::mod: {
      if (b == 0) return 0;
      if (is_unsigned) return back(bits(a) % bits(b));
      if (b == -1) return 0;
      const int64_t r = a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case ExprOp::fmod:
      if (b == 0) return 0;
      if (is_unsigned) return back(bits(a) % bits(b));
      return b == -1 ? 0 : a % b;
    case ExprOp::pow: return integer_power(a, b);
    case ExprOp::min: return (is_unsigned ? bits(a) < bits(b) : a < b) ? a : b;
    case ExprOp::max: return (is_unsigned ? bits(a) < bits(b) : a < b) ? b : a;
    case ExprOp::bit_and:
    case ExprOp::logical_and: return a & b;
    case ExprOp::bit_or:
    case ExprOp::logical_or: return a | b;
    case ExprOp::bit_xor:
    case ExprOp::logical_xor: return a ^ b;
    case ExprOp::shift_left: return b < 0 || b >= 64 ? 0 : back(bits(a) << b);
    case ExprOp::shift_right:
      if (is_unsigned) return b < 0 || b >= 64 ? 0 : back(bits(a) >> b);
      return b < 0 ? 0 : a >> std::min<int64_t>(b, 63);
    case ExprOp::equal: return a == b;
    case ExprOp::less: return is_unsigned ? bits(a) < bits(b) : a < b;
    case ExprOp::less_equal: return is_unsigned ? bits(a) <= bits(b) : a <= b;
    default: fail(ErrorKind::internal, "internal error: expression '{}' has no meaning for integers", info(op).name);
  }
}

// One loop per operation.
template <ExprOp op>
void real_loop(const double* a, const double* b, double* result, size_t count) {
  for (size_t i = 0; i < count; ++i) result[i] = real_value(op, a[i], b[i]);
}
template <ExprOp op>
void real_test_loop(const double* a, const double* b, int64_t* result, size_t count) {
  for (size_t i = 0; i < count; ++i) result[i] = real_value(op, a[i], b[i]) != 0;
}
template <ExprOp op, bool is_unsigned>
void integer_loop(const int64_t* a, const int64_t* b, int64_t* result, size_t count) {
  for (size_t i = 0; i < count; ++i) result[i] = integer_value(op, is_unsigned, a[i], b[i]);
}

constexpr size_t operation_count = static_cast<size_t>(ExprOp::select) + 1;
using AllOperations = std::make_index_sequence<operation_count>;

template <size_t... op>
constexpr auto real_loops_of(std::index_sequence<op...>) {
  return std::array{&real_loop<static_cast<ExprOp>(op)>...};
}
template <size_t... op>
constexpr auto real_test_loops_of(std::index_sequence<op...>) {
  return std::array{&real_test_loop<static_cast<ExprOp>(op)>...};
}
template <bool is_unsigned, size_t... op>
constexpr auto integer_loops_of(std::index_sequence<op...>) {
  return std::array{&integer_loop<static_cast<ExprOp>(op), is_unsigned>...};
}

constexpr auto real_loops = real_loops_of(AllOperations{});
constexpr auto real_test_loops = real_test_loops_of(AllOperations{});
constexpr auto integer_loops = integer_loops_of<false>(AllOperations{});
constexpr auto unsigned_loops = integer_loops_of<true>(AllOperations{});

/// One more than the largest value: exact as a float64.
double beyond_largest(DType dtype) { return std::ldexp(1.0, bits_of(dtype) - (is_signed(dtype) ? 1 : 0)); }

void convert_to_real(const ExprNode& node, DType from, const Column& x, Column& result, size_t count, bool rounds) {
  if (is_float(from))
    std::copy_n(x.reals.begin(), count, result.reals.begin());
  else
    for (size_t i = 0; i < count; ++i) result.reals[i] = to_real(x.integers[i], from);
  // Casts to 8 bits and fewer quantise: they are part of what the model says, not rounding noise.
  if (size_of(node.dtype) == 1) {
    const bool saturate = node.op != ExprOp::cast_unsaturated;
    for (size_t i = 0; i < count; ++i) result.reals[i] = round_to(node.dtype, result.reals[i], saturate);
  } else if (rounds && node.dtype == DType::f32 && (from == DType::i64 || from == DType::u64)) {
    // Straight from the integer: through float64 it would be rounded twice.
    for (size_t i = 0; i < count; ++i) result.reals[i] = from == DType::i64 ? static_cast<float>(x.integers[i]) : static_cast<float>(bits(x.integers[i]));
  } else if (rounds) {
    round_block(node.dtype, result.reals.data(), count);
  }
}

void convert_to_integer(const ExprNode& node, DType from, const Column& x, Column& result, size_t count) {
  const bool wrap = node.op == ExprOp::cast_wrap;
  for (size_t i = 0; i < count; ++i) {
    if (is_float(from))
      result.integers[i] = to_integer(x.reals[i], node.dtype, wrap);
    else
      result.integers[i] = wrap ? wrap_to(node.dtype, x.integers[i]) : clamp_integer(x.integers[i], from, node.dtype);
  }
}

void reinterpret(const ExprNode& node, DType from, const Column& x, Column& result, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    uint64_t bytes = 0;
    is_float(from) ? convert(DType::f64, &x.reals[i], from, &bytes, 1, false) : write_int(from, &bytes, 0, x.integers[i]);
    is_float(node.dtype) ? void(result.reals[i] = read_float(node.dtype, &bytes, 0)) : void(result.integers[i] = read_int(node.dtype, &bytes, 0));
  }
}

/// Powers whose operands are one float and one integer.
void mixed_power(const ExprNode& node, const std::vector<DType>& dtypes, const std::vector<const Column*>& args, Column& result, size_t count) {
  const auto real_of = [&](size_t k, size_t i) { return is_float(dtypes[k]) ? args[k]->reals[i] : to_real(args[k]->integers[i], dtypes[k]); };
  for (size_t i = 0; i < count; ++i) {
    const double power = std::pow(real_of(0, i), real_of(1, i));
    is_float(node.dtype) ? void(result.reals[i] = power) : void(result.integers[i] = to_integer(power, node.dtype, false));
  }
}

}  // namespace

double apply(ExprOp op, double a, double b) { return real_value(op, a, b); }
int64_t apply(ExprOp op, DType operands, int64_t a, int64_t b) { return integer_value(op, operands == DType::u64, a, b); }

int64_t lowest_integer(DType dtype) { return !is_signed(dtype) ? 0 : back(~uint64_t{0} << (bits_of(dtype) - 1)); }

int64_t largest_integer(DType dtype) {
  if (dtype == DType::boolean) return 1;
  return back(~uint64_t{0} >> (64 - bits_of(dtype) + (is_signed(dtype) ? 1 : 0)));
}

int64_t to_integer(double value, DType to, bool wrap) {
  if (to == DType::boolean) return value != 0;
  if (std::isnan(value)) return wrap ? wrap_to(to, std::numeric_limits<int64_t>::min()) : 0;
  const double whole = std::trunc(value);
  if (wrap) {
    if (to == DType::u64 && whole >= 0x1p63 && whole < 0x1p64) return back(static_cast<uint64_t>(whole));
    return wrap_to(to, whole >= -0x1p63 && whole < 0x1p63 ? static_cast<int64_t>(whole) : std::numeric_limits<int64_t>::min());
  }
  if (whole >= beyond_largest(to)) return largest_integer(to);
  if (whole < static_cast<double>(lowest_integer(to))) return lowest_integer(to);
  return to == DType::u64 ? back(static_cast<uint64_t>(whole)) : static_cast<int64_t>(whole);
}

int64_t clamp_integer(int64_t value, DType from, DType to) {
  if (to == DType::boolean) return value != 0;
  if (from == DType::u64 && value < 0) return largest_integer(to);  // at least 2^63
  if (to == DType::u64) return std::max<int64_t>(value, 0);
  return std::clamp(value, lowest_integer(to), largest_integer(to));
}

void round_block(DType dtype, double* values, size_t count) {
  if (dtype == DType::f64) return;
  if (dtype == DType::f32) {
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<double>(static_cast<float>(values[i]));
  } else {
    for (size_t i = 0; i < count; ++i) values[i] = round_to(dtype, values[i]);
  }
}

void wrap_block(DType dtype, int64_t* values, size_t count) {
  if (dtype == DType::boolean || bits_of(dtype) == 64) return;
  const int unused = 64 - bits_of(dtype);
  if (is_signed(dtype)) {
    for (size_t i = 0; i < count; ++i) values[i] = back(bits(values[i]) << unused) >> unused;
  } else {
    for (size_t i = 0; i < count; ++i) values[i] = back(bits(values[i]) << unused >> unused);
  }
}

void apply_block(const ExprNode& node, const std::vector<DType>& dtypes, const std::vector<const Column*>& args, Column& result, size_t count, bool rounds) {
  const DType from = dtypes.at(node.op == ExprOp::select ? 1 : 0);
  switch (node.op) {
    case ExprOp::select:
      for (size_t i = 0; i < count; ++i) {
        const Column& chosen = *(args[0]->integers[i] != 0 ? args[1] : args[2]);
        is_float(from) ? void(result.reals[i] = chosen.reals[i]) : void(result.integers[i] = chosen.integers[i]);
      }
      return;
    case ExprOp::cast:
    case ExprOp::cast_wrap:
    case ExprOp::cast_unsaturated:
      return is_float(node.dtype) ? convert_to_real(node, from, *args[0], result, count, rounds) : convert_to_integer(node, from, *args[0], result, count);
    case ExprOp::bitcast: return reinterpret(node, from, *args[0], result, count);
    default: break;
  }
  const size_t op = static_cast<size_t>(node.op);
  const Column& a = *args[0];
  const Column& b = *args.back();
  if (node.op == ExprOp::pow && is_float(dtypes[0]) != is_float(dtypes[1]))
    mixed_power(node, dtypes, args, result, count);
  else if (is_float(from) && !is_float(node.dtype))
    real_test_loops[op](a.reals.data(), b.reals.data(), result.integers.data(), count);
  else if (is_float(from))
    real_loops[op](a.reals.data(), b.reals.data(), result.reals.data(), count);
  else
    (from == DType::u64 ? unsigned_loops : integer_loops)[op](a.integers.data(), b.integers.data(), result.integers.data(), count);
  if (!is_float(node.dtype))
    wrap_block(node.dtype, result.integers.data(), count);
  else if (rounds)
    round_block(node.dtype, result.reals.data(), count);
}

}  // namespace tilewright::pattern
