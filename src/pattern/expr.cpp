#include "pattern/expr.h"

#include "base/error.h"

namespace tilewright::pattern {
namespace {

using Op = ExprOp;
using Class = ExprClass;

/// In the order of the enumeration.
constexpr ExprInfo table[] = {
    {Op::constant, "constant", 0, Class::leaf},
    {Op::index, "index", 0, Class::leaf},
    {Op::size, "size", 0, Class::leaf},
    {Op::load, "load", 0, Class::leaf},
    {Op::reduced, "reduced", 0, Class::leaf},
    {Op::neg, "neg", 1, Class::unary},
    {Op::abs, "abs", 1, Class::unary},
    {Op::sign, "sign", 1, Class::unary},
    {Op::floor, "floor", 1, Class::unary},
    {Op::ceil, "ceil", 1, Class::unary},
    {Op::round_even, "round", 1, Class::unary},
    {Op::trunc, "trunc", 1, Class::unary},
    {Op::sqrt, "sqrt", 1, Class::unary},
    {Op::exp, "exp", 1, Class::unary},
    {Op::log, "log", 1, Class::unary},
    {Op::sin, "sin", 1, Class::unary},
    {Op::cos, "cos", 1, Class::unary},
    {Op::tan, "tan", 1, Class::unary},
    {Op::asin, "asin", 1, Class::unary},
    {Op::acos, "acos", 1, Class::unary},
    {Op::atan, "atan", 1, Class::unary},
    {Op::sinh, "sinh", 1, Class::unary},
    {Op::cosh, "cosh", 1, Class::unary},
    {Op::tanh, "tanh", 1, Class::unary},
    {Op::asinh, "asinh", 1, Class::unary},
    {Op::acosh, "acosh", 1, Class::unary},
    {Op::atanh, "atanh", 1, Class::unary},
    {Op::erf, "erf", 1, Class::unary},
    {Op::sigmoid, "sigmoid", 1, Class::unary},
    {Op::logical_not, "not", 1, Class::unary},
    {Op::bit_not, "bit_not", 1, Class::unary},
    {Op::is_nan, "is_nan", 1, Class::convert},
    {Op::is_inf, "is_inf", 1, Class::convert},
    {Op::cast, "cast", 1, Class::convert},
    {Op::cast_wrap, "cast_wrap", 1, Class::convert},
    {Op::cast_unsaturated, "cast_unsaturated", 1, Class::convert},
    {Op::bitcast, "bitcast", 1, Class::convert},
    {Op::add, "add", 2, Class::binary},
    {Op::sub, "sub", 2, Class::binary},
    {Op::mul, "mul", 2, Class::binary},
    {Op::div, "div", 2, Class::binary},
    {Op::floor_div, "floor_div", 2, Class::binary},
    {Op::mod, "mod", 2, Class::binary},
    {Op::fmod, "fmod", 2, Class::binary},
    {Op::pow, "pow", 2, Class::binary},
    {Op::min, "min", 2, Class::binary},
    {Op::max, "max", 2, Class::binary},
    {Op::bit_and, "bit_and", 2, Class::binary},
    {Op::bit_or, "bit_or", 2, Class::binary},
    {Op::bit_xor, "bit_xor", 2, Class::binary},
    {Op::shift_left, "shift_left", 2, Class::binary},
    {Op::shift_right, "shift_right", 2, Class::binary},
    {Op::logical_and, "and", 2, Class::binary},
    {Op::logical_or, "or", 2, Class::binary},
    {Op::logical_xor, "xor", 2, Class::binary},
    {Op::equal, "equal", 2, Class::compare},
    {Op::less, "less", 2, Class::compare},
    {Op::less_equal, "less_equal", 2, Class::compare},
    {Op::select, "select", 3, Class::ternary},
};

constexpr bool in_order() {
  for (size_t i = 0; i < std::size(table); ++i)
    if (static_cast<size_t>(table[i].op) != i) return false;
  return std::size(table) == static_cast<size_t>(Op::select) + 1;
}
static_assert(in_order(), "the table of expression operations follows the enumeration");

}  // namespace

const ExprInfo& info(ExprOp op) { return table[static_cast<size_t>(op)]; }

}  // namespace tilewright::pattern
