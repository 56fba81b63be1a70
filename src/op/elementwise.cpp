#include <array>

#include "op/tables.h"
#include "pattern/expr.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::NestBuilder;

/// Operators that are one expression operation: the operator's name and what its operands may be.
enum class Domain { floats, numbers, integers, booleans, any };
struct Row {
  std::string_view name;
  ExprOp op;
  Domain domain;
};

constexpr Row unary_rows[] = {
    {"abs", ExprOp::abs, Domain::numbers},        {"acos", ExprOp::acos, Domain::floats},         {"acosh", ExprOp::acosh, Domain::floats},
    {"asin", ExprOp::asin, Domain::floats},       {"asinh", ExprOp::asinh, Domain::floats},       {"atan", ExprOp::atan, Domain::floats},
    {"atanh", ExprOp::atanh, Domain::floats},     {"bit_not", ExprOp::bit_not, Domain::integers}, {"ceil", ExprOp::ceil, Domain::numbers},
    {"cos", ExprOp::cos, Domain::floats},         {"cosh", ExprOp::cosh, Domain::floats},         {"erf", ExprOp::erf, Domain::floats},
    {"exp", ExprOp::exp, Domain::floats},         {"floor", ExprOp::floor, Domain::numbers},      {"log", ExprOp::log, Domain::floats},
    {"neg", ExprOp::neg, Domain::numbers},        {"not", ExprOp::logical_not, Domain::booleans}, {"round", ExprOp::round_even, Domain::numbers},
    {"sigmoid", ExprOp::sigmoid, Domain::floats}, {"sign", ExprOp::sign, Domain::numbers},        {"sin", ExprOp::sin, Domain::floats},
    {"sinh", ExprOp::sinh, Domain::floats},       {"sqrt", ExprOp::sqrt, Domain::floats},         {"tan", ExprOp::tan, Domain::floats},
    {"tanh", ExprOp::tanh, Domain::floats},       {"trunc", ExprOp::trunc, Domain::numbers},      {"is_nan", ExprOp::is_nan, Domain::floats},
    {"is_inf", ExprOp::is_inf, Domain::floats},
};

constexpr Row binary_rows[] = {
    {"add", ExprOp::add, Domain::numbers},
    {"and", ExprOp::logical_and, Domain::booleans},
    {"bit_and", ExprOp::bit_and, Domain::integers},
    {"bit_or", ExprOp::bit_or, Domain::integers},
    {"bit_xor", ExprOp::bit_xor, Domain::integers},
    {"div", ExprOp::div, Domain::numbers},
    {"equal", ExprOp::equal, Domain::any},
    {"floor_div", ExprOp::floor_div, Domain::numbers},
    {"fmod", ExprOp::fmod, Domain::numbers},
    {"less", ExprOp::less, Domain::any},
    {"less_equal", ExprOp::less_equal, Domain::any},
    {"max", ExprOp::max, Domain::any},
    {"min", ExprOp::min, Domain::any},
    {"mod", ExprOp::mod, Domain::numbers},
    {"mul", ExprOp::mul, Domain::numbers},
    {"or", ExprOp::logical_or, Domain::booleans},
    {"pow", ExprOp::pow, Domain::numbers},
    {"shift_left", ExprOp::shift_left, Domain::integers},
    {"shift_right", ExprOp::shift_right, Domain::integers},
    {"sub", ExprOp::sub, Domain::numbers},
    {"xor", ExprOp::logical_xor, Domain::booleans},
};

const Row& row_of(std::string_view name) {
  for (const Row& row : unary_rows)
    if (row.name == name) return row;
  for (const Row& row : binary_rows)
    if (row.name == name) return row;
  fail(ErrorKind::internal, "no elementwise operator '{}'", name);
}

void check_domain(const InferContext& c, const Row& row, DType dtype) {
  const bool ok = row.domain == Domain::any || (row.domain == Domain::floats && is_float(dtype)) ||
                  (row.domain == Domain::numbers && dtype != DType::boolean) || (row.domain == Domain::integers && is_integer(dtype)) ||
                  (row.domain == Domain::booleans && dtype == DType::boolean);
  constexpr std::array<const char*, 5> wanted = {"a float dtype", "a number", "an integer dtype", "bool", ""};
  c.require(ok, "operand is {}; needs {}", name(dtype), wanted[static_cast<size_t>(row.domain)]);
}

std::vector<Type> infer_unary(const InferContext& c) {
  const Row& row = row_of(c.node().op);
  check_domain(c, row, c.dtype(0));
  const bool test = row.op == ExprOp::is_nan || row.op == ExprOp::is_inf;
  return {{test ? DType::boolean : c.dtype(0), c.dims(0)}};
}

void lower_unary(Lowering& l) {
  const InferContext c = l.context();
  const Row& row = row_of(l.node.op);
  NestBuilder n(l.out_type().dims);
  const Expr x = n.load_broadcast(l.in(0), l.in_type(0));
  Expr y = n.unary(row.op, x);
  if (row.op == ExprOp::is_inf) {
    const Expr zero = n.constant(x.dtype(), 0);
    if (c.integer_or("positive", 1) == 0) y = n.binary(ExprOp::logical_and, y, n.binary(ExprOp::less, x, zero));
    if (c.integer_or("negative", 1) == 0) y = n.binary(ExprOp::logical_and, y, n.binary(ExprOp::less, zero, x));
  }
  n.store(l.out(), y);
  l.emit(n);
}

std::vector<Type> infer_binary(const InferContext& c) {
  const Row& row = row_of(c.node().op);
  check_domain(c, row, c.dtype(0));
  const bool free_right = row.op == ExprOp::pow;
  c.require(free_right || c.dtype(0) == c.dtype(1), "operands are {} and {}; dtypes must agree", str(c.type(0)), str(c.type(1)));
  const bool compares = pattern::info(row.op).kind == pattern::ExprClass::compare;
  return {{compares ? DType::boolean : c.dtype(0), broadcast_dims(c, c.dims(0), c.dims(1))}};
}

void lower_binary(Lowering& l) {
  NestBuilder n(l.out_type().dims);
  const Expr a = n.load_broadcast(l.in(0), l.in_type(0)), b = n.load_broadcast(l.in(1), l.in_type(1));
  n.store(l.out(), n.binary(row_of(l.node.op).op, a, b));
  l.emit(n);
}

std::vector<Type> infer_where(const InferContext& c) {
  c.require(c.dtype(0) == DType::boolean, "condition is {}; needs bool", str(c.type(0)));
  c.require(c.dtype(1) == c.dtype(2), "values are {} and {}; dtypes must agree", str(c.type(1)), str(c.type(2)));
  return {{c.dtype(1), broadcast_dims(c, broadcast_dims(c, c.dims(1), c.dims(2)), c.dims(0))}};
}

void lower_where(Lowering& l) {
  NestBuilder n(l.out_type().dims);
  const Expr condition = n.load_broadcast(l.in(0), l.in_type(0));
  n.store(l.out(), n.select(condition, n.load_broadcast(l.in(1), l.in_type(1)), n.load_broadcast(l.in(2), l.in_type(2))));
  l.emit(n);
}

std::vector<Type> infer_cast(const InferContext& c) { return {{c.dtype_attribute("to"), c.dims(0)}}; }

void lower_cast(Lowering& l) {
  const std::string mode = l.context().text_or("mode", "saturate");
  NestBuilder n(l.out_type().dims);
  const ExprOp how = mode == "wrap" ? ExprOp::cast_wrap : mode == "unsaturated" ? ExprOp::cast_unsaturated : ExprOp::cast;
  n.store(l.out(), n.cast(n.load_broadcast(l.in(0), l.in_type(0)), l.out_type().dtype, how));
  l.emit(n);
}

std::vector<Type> infer_bitcast(const InferContext& c) {
  const DType to = c.dtype_attribute("to");
  c.require(bits_of(to) == bits_of(c.dtype(0)), "{} and {} differ in width", name(c.dtype(0)), name(to));
  return {{to, c.dims(0)}};
}

void lower_bitcast(Lowering& l) {
  NestBuilder n(l.out_type().dims);
  n.store(l.out(), n.cast(n.load_broadcast(l.in(0), l.in_type(0)), l.out_type().dtype, ExprOp::bitcast));
  l.emit(n);
}

}  // namespace

std::span<const OpDef> elementwise_ops() {
  static const std::vector<OpDef> ops = [] {
    std::vector<OpDef> all = {
        {"bitcast", 1, 1, infer_bitcast, lower_bitcast}, {"cast", 1, 1, infer_cast, lower_cast}, {"where", 3, 3, infer_where, lower_where}};
    for (const Row& row : unary_rows) all.push_back({row.name, 1, 1, infer_unary, lower_unary});
    for (const Row& row : binary_rows) all.push_back({row.name, 2, 2, infer_binary, lower_binary});
    return all;
  }();
  return ops;
}

}  // namespace tilewright
