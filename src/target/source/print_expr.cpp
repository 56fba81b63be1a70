#include "target/source/print_expr.h"

#include "base/error.h"
#include "target/source/cpp_text.h"

namespace tilewright::source {
namespace {

using pattern::ExprNode;
using pattern::ExprOp;

/// Functions of tile/math.h that are called by name.
const char* function_of(ExprOp op) {
  switch (op) {
    case ExprOp::abs: return "tile::abs";
    case ExprOp::sign: return "tile::sign";
    case ExprOp::floor: return "tile::floor";
    case ExprOp::ceil: return "tile::ceil";
    case ExprOp::round_even: return "tile::round";
    case ExprOp::trunc: return "tile::trunc";
    case ExprOp::sqrt: return "tile::sqrt";
    case ExprOp::exp: return "tile::exp";
    case ExprOp::log: return "tile::log";
    case ExprOp::sin: return "tile::sin";
    case ExprOp::cos: return "tile::cos";
    case ExprOp::tan: return "tile::tan";
    case ExprOp::asin: return "tile::asin";
    case ExprOp::acos: return "tile::acos";
    case ExprOp::atan: return "tile::atan";
    case ExprOp::sinh: return "tile::sinh";
    case ExprOp::cosh: return "tile::cosh";
    case ExprOp::tanh: return "tile::tanh";
    case ExprOp::asinh: return "tile::asinh";
    case ExprOp::acosh: return "tile::acosh";
    case ExprOp::atanh: return "tile::atanh";
    case ExprOp::erf: return "tile::erf";
    case ExprOp::sigmoid: return "tile::sigmoid";
    case ExprOp::is_nan: return "tile::is_nan";
    case ExprOp::is_inf: return "tile::is_inf";
    case ExprOp::floor_div: return "tile::floor_div";
    case ExprOp::mod: return "tile::mod";
    case ExprOp::fmod: return "tile::fmod";
    case ExprOp::min: return "tile::min";
    case ExprOp::max: return "tile::max";
    case ExprOp::shift_left: return "tile::shift_left";
    case ExprOp::shift_right: return "tile::shift_right";
    case ExprOp::add: return "tile::wrapping_add";
    case ExprOp::sub: return "tile::wrapping_sub";
    case ExprOp::mul: return "tile::wrapping_mul";
    default: return nullptr;
  }
}

bool below_a_byte(DType dtype) { return is_integer(dtype) && bits_of(dtype) < 8; }

/// Integers of less than a byte wrap to their own width.
std::string fitted(DType dtype, const std::string& text) {
  return below_a_byte(dtype) ? fmt::format("tile::wrap_to_bits<{}>({})", bits_of(dtype), text) : text;
}

std::string observed(const Operand& value) { return value.exact ? value.text : rounded(value.dtype, value.text); }

std::string bits_argument(DType dtype) { return below_a_byte(dtype) ? fmt::format("{}, {}", storage_type(dtype), bits_of(dtype)) : storage_type(dtype); }

Operand print_cast(const ExprNode& node, const Operand& from) {
  const DType to = node.dtype;
  const std::string value = observed(from);
  if (from.dtype == to) return {value, to, true};
  if (to == DType::boolean) return {fmt::format("({} != 0)", value), to, true};
  if (is_narrow_float(to)) {
    const bool saturate = node.op != ExprOp::cast_unsaturated;
    const std::string number = is_integer(from.dtype) || from.dtype == DType::boolean ? fmt::format("static_cast<double>({})", value) : value;
    return {fmt::format("tile::to_float(tile::store_as<{}{}>({}))", storage_type(to), saturate ? "" : ", false", number), to, true};
  }
  if (is_float(to)) return {fmt::format("static_cast<{}>({})", value_type(to), value), to, true};
  return {fmt::format("tile::{}<{}>({})", node.op == ExprOp::cast_wrap ? "cast_wrap" : "cast_saturate", bits_argument(to), value), to, true};
}

Operand print_bitcast(const ExprNode& node, const Operand& from) {
  if (below_a_byte(from.dtype) && below_a_byte(node.dtype))
    return {fmt::format("tile::wrap_to_bits<{}>(static_cast<{}>({}))", bits_of(node.dtype), storage_type(node.dtype), from.text), node.dtype, true};
  const std::string element = fmt::format("tile::bit_cast<{}>({})", storage_type(node.dtype), stored(from.dtype, from.text, from.exact));
  return {loaded(node.dtype, element), node.dtype, true};
}

Operand print_pow(const ExprNode& node, const Operand& base, const Operand& exponent) {
  return {fitted(node.dtype, fmt::format("tile::pow({}, {})", base.text, exponent.text)), node.dtype, !is_narrow_float(node.dtype)};
}

std::string infix(const char* operation, const Operand& a, const Operand& b) { return fmt::format("{} {} {}", a.text, operation, b.text); }

Operand print_comparison(const char* operation, const Operand& a, const Operand& b) {
  return {fmt::format("{} {} {}", observed(a), operation, observed(b)), DType::boolean, true};
}

}  // namespace

std::string converted(const Operand& value, DType to) {
  if (value_type(value.dtype) == value_type(to)) return value.text;
  return fmt::format("static_cast<{}>({})", value_type(to), value.text);
}

Operand print_operation(const ExprNode& node, const std::vector<Operand>& args) {
  const DType dtype = node.dtype;
  const bool floating = is_float(dtype);
  const bool exact = !is_narrow_float(dtype);
  const auto result = [&](const std::string& text) { return Operand{fitted(dtype, text), dtype, exact}; };
  const auto narrow_integer = [&](const std::string& text) { return floating ? text : fmt::format("static_cast<{}>({})", value_type(dtype), text); };
  switch (node.op) {
    case ExprOp::cast:
    case ExprOp::cast_wrap:
    case ExprOp::cast_unsaturated: return print_cast(node, args[0]);
    case ExprOp::bitcast: return print_bitcast(node, args[0]);
    case ExprOp::neg:
      if (floating) return {"-" + args[0].text, dtype, args[0].exact};
      return result(fmt::format("tile::wrapping_sub<{0}>({0}{{0}}, {1})", value_type(dtype), args[0].text));
    case ExprOp::add: return result(floating ? infix("+", args[0], args[1]) : fmt::format("tile::wrapping_add({}, {})", args[0].text, args[1].text));
    case ExprOp::sub: return result(floating ? infix("-", args[0], args[1]) : fmt::format("tile::wrapping_sub({}, {})", args[0].text, args[1].text));
    case ExprOp::mul: return result(floating ? infix("*", args[0], args[1]) : fmt::format("tile::wrapping_mul({}, {})", args[0].text, args[1].text));
    case ExprOp::div: return result(floating ? infix("/", args[0], args[1]) : fmt::format("tile::div({}, {})", args[0].text, args[1].text));
    case ExprOp::pow: return print_pow(node, args[0], args[1]);
    case ExprOp::bit_not: return result(dtype == DType::boolean ? "!" + args[0].text : narrow_integer("~" + args[0].text));
    case ExprOp::bit_and: return result(narrow_integer(infix("&", args[0], args[1])));
    case ExprOp::bit_or: return result(narrow_integer(infix("|", args[0], args[1])));
    case ExprOp::bit_xor: return result(narrow_integer(infix("^", args[0], args[1])));
    case ExprOp::logical_not: return {"!" + args[0].text, DType::boolean, true};
    // No short circuits: branches would keep a loop from becoming vector code.
    case ExprOp::logical_and: return {infix("&", args[0], args[1]), DType::boolean, true};
    case ExprOp::logical_or: return {infix("|", args[0], args[1]), DType::boolean, true};
    case ExprOp::logical_xor: return {infix("!=", args[0], args[1]), DType::boolean, true};
    case ExprOp::equal: return print_comparison("==", args[0], args[1]);
    case ExprOp::less: return print_comparison("<", args[0], args[1]);
    case ExprOp::less_equal: return print_comparison("<=", args[0], args[1]);
    case ExprOp::select: return {fmt::format("{} ? {} : {}", args[0].text, args[1].text, args[2].text), dtype, args[1].exact && args[2].exact};
    case ExprOp::min:
    case ExprOp::max: return {fmt::format("{}({}, {})", function_of(node.op), args[0].text, args[1].text), dtype, args[0].exact && args[1].exact};
    case ExprOp::abs:
    case ExprOp::sign: return {fitted(dtype, fmt::format("{}({})", function_of(node.op), args[0].text)), dtype, args[0].exact};
    case ExprOp::floor:
    case ExprOp::ceil:
    case ExprOp::trunc:
    case ExprOp::round_even:
      if (!floating) return args[0];
      return {fmt::format("{}({})", function_of(node.op), observed(args[0])), dtype, true};
    case ExprOp::is_nan:
    case ExprOp::is_inf: return {fmt::format("{}({})", function_of(node.op), observed(args[0])), DType::boolean, true};
    case ExprOp::mod:
    case ExprOp::fmod:
    case ExprOp::floor_div: return result(fmt::format("{}({}, {})", function_of(node.op), observed(args[0]), observed(args[1])));
    default: break;
  }
  if (node.op == ExprOp::shift_left || node.op == ExprOp::shift_right)
    return result(fmt::format("{}({}, {})", function_of(node.op), args[0].text, converted(args[1], args[0].dtype)));
  const char* function = function_of(node.op);
  if (function == nullptr || args.empty()) fail(ErrorKind::internal, "internal error: an expression node has no C++ form (op {})", static_cast<int>(node.op));
  std::string list;
  for (const Operand& arg : args) list += (list.empty() ? "" : ", ") + arg.text;
  return result(fmt::format("{}({})", function, list));
}

int cost_of(const ExprNode& node) {
  switch (node.op) {
    case ExprOp::constant:
    case ExprOp::index:
    case ExprOp::size:
    case ExprOp::reduced: return 0;
    case ExprOp::exp:
    case ExprOp::log:
    case ExprOp::sin:
    case ExprOp::cos:
    case ExprOp::tanh:
    case ExprOp::sigmoid:
    case ExprOp::erf: return 12;
    case ExprOp::pow:
    case ExprOp::tan:
    case ExprOp::asin:
    case ExprOp::acos:
    case ExprOp::atan:
    case ExprOp::sinh:
    case ExprOp::cosh:
    case ExprOp::asinh:
    case ExprOp::acosh:
    case ExprOp::atanh: return 40;
    case ExprOp::sqrt: return 6;
    case ExprOp::div:
    case ExprOp::floor_div:
    case ExprOp::mod:
    case ExprOp::fmod: return is_float(node.dtype) ? (node.op == ExprOp::div ? 4 : 20) : 20;
    default: return 1;
  }
}

}  // namespace tilewright::source
