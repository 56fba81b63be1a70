#include "import/onnx/operands.h"
#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

void unary(NodeImport& n, std::string_view core) { n.set(n.b.unary(core, n.in(0))); }

void binary(NodeImport& n, std::string_view core) {
  const ValueId a = n.in(0);
  n.set(n.b.one(core, {a, aligned_operand(n, a, n.in(1))}));
}

void variadic(NodeImport& n, std::string_view core) {
  const std::vector<ValueId> all = n.all_inputs();
  ValueId result = all[0];
  for (size_t i = 1; i < all.size(); ++i) result = n.b.one(core, {result, all[i]});
  n.set(result);
}

void abs(NodeImport& n) { unary(n, "abs"); }
void acos(NodeImport& n) { unary(n, "acos"); }
void acosh(NodeImport& n) { unary(n, "acosh"); }
void asin(NodeImport& n) { unary(n, "asin"); }
void asinh(NodeImport& n) { unary(n, "asinh"); }
void atan(NodeImport& n) { unary(n, "atan"); }
void atanh(NodeImport& n) { unary(n, "atanh"); }
void bitwise_not(NodeImport& n) { unary(n, "bit_not"); }
void ceil(NodeImport& n) { unary(n, "ceil"); }
void cos(NodeImport& n) { unary(n, "cos"); }
void cosh(NodeImport& n) { unary(n, "cosh"); }
void erf(NodeImport& n) { unary(n, "erf"); }
void exp(NodeImport& n) { unary(n, "exp"); }
void floor(NodeImport& n) { unary(n, "floor"); }
void is_nan(NodeImport& n) { unary(n, "is_nan"); }
void log(NodeImport& n) { unary(n, "log"); }
void logical_not(NodeImport& n) { unary(n, "not"); }
void neg(NodeImport& n) { unary(n, "neg"); }
void round(NodeImport& n) { unary(n, "round"); }
void sign(NodeImport& n) { unary(n, "sign"); }
void sin(NodeImport& n) { unary(n, "sin"); }
void sinh(NodeImport& n) { unary(n, "sinh"); }
void sqrt(NodeImport& n) { unary(n, "sqrt"); }
void tan(NodeImport& n) { unary(n, "tan"); }

void add(NodeImport& n) { binary(n, "add"); }
void bitwise_and(NodeImport& n) { binary(n, "bit_and"); }
void bitwise_or(NodeImport& n) { binary(n, "bit_or"); }
void bitwise_xor(NodeImport& n) { binary(n, "bit_xor"); }
void div(NodeImport& n) { binary(n, "div"); }
void equal(NodeImport& n) { binary(n, "equal"); }
void less(NodeImport& n) { binary(n, "less"); }
void less_or_equal(NodeImport& n) { binary(n, "less_equal"); }
void logical_and(NodeImport& n) { binary(n, "and"); }
void logical_or(NodeImport& n) { binary(n, "or"); }
void logical_xor(NodeImport& n) { binary(n, "xor"); }
void mul(NodeImport& n) { binary(n, "mul"); }
void pow(NodeImport& n) { binary(n, "pow"); }
void sub(NodeImport& n) { binary(n, "sub"); }

void max(NodeImport& n) { variadic(n, "max"); }
void min(NodeImport& n) { variadic(n, "min"); }
void sum(NodeImport& n) { variadic(n, "add"); }

void greater(NodeImport& n) {
  const ValueId a = n.in(0);
  n.set(n.b.less(aligned_operand(n, a, n.in(1)), a));
}

void greater_or_equal(NodeImport& n) { n.set(n.b.less_equal(n.in(1), n.in(0))); }

void bit_shift(NodeImport& n) {
  const std::string direction = n.text("direction");
  n.require(direction == "LEFT" || direction == "RIGHT", "direction '{}' is neither LEFT nor RIGHT", direction);
  binary(n, direction == "LEFT" ? "shift_left" : "shift_right");
}

void clip(NodeImport& n) {
  ValueId x = n.in(0);
  const auto bound = [&](int input, std::string_view attribute) {
    if (n.opset() >= 11) return n.in_or(input);
    return n.has_attribute(attribute) ? n.b.scalar(n.b.dtype(x), n.real(attribute)) : no_value;
  };
  // The upper bound wins when the bounds cross.
  if (const ValueId low = bound(1, "min"); low != no_value) x = n.b.max(x, low);
  if (const ValueId high = bound(2, "max"); high != no_value) x = n.b.min(x, high);
  n.set(x);
}

void is_inf(NodeImport& n) {
  n.set(n.b.one("is_inf", {n.in(0)}, {{"positive", n.integer("detect_positive", 1)}, {"negative", n.integer("detect_negative", 1)}}));
}

void mean(NodeImport& n) {
  variadic(n, "add");
  const ValueId total = n.results()[0].tensor;
  n.set(n.b.div(total, n.b.scalar(n.b.dtype(total), n.input_count())));
}

void mod(NodeImport& n) { binary(n, n.flag("fmod", false) ? "fmod" : "mod"); }

void reciprocal(NodeImport& n) {
  const ValueId x = n.in(0);
  n.set(n.b.div(n.b.scalar(n.b.dtype(x), 1), x));
}

void where(NodeImport& n) { n.set(n.b.where(n.in(0), n.in(1), n.in(2))); }

constexpr OperatorEntry table[] = {
    {"", "Abs", 1, abs},
    {"", "Acos", 7, acos},
    {"", "Acosh", 9, acosh},
    {"", "Add", 1, add},
    {"", "And", 1, logical_and},
    {"", "Asin", 7, asin},
    {"", "Asinh", 9, asinh},
    {"", "Atan", 7, atan},
    {"", "Atanh", 9, atanh},
    {"", "BitShift", 11, bit_shift},
    {"", "BitwiseAnd", 18, bitwise_and},
    {"", "BitwiseNot", 18, bitwise_not},
    {"", "BitwiseOr", 18, bitwise_or},
    {"", "BitwiseXor", 18, bitwise_xor},
    {"", "Ceil", 1, ceil},
    {"", "Clip", 1, clip},
    {"", "Cos", 7, cos},
    {"", "Cosh", 9, cosh},
    {"", "Div", 1, div},
    {"", "Equal", 1, equal},
    {"", "Erf", 9, erf},
    {"", "Exp", 1, exp},
    {"", "Floor", 1, floor},
    {"", "Greater", 1, greater},
    {"", "GreaterOrEqual", 12, greater_or_equal},
    {"", "IsInf", 10, is_inf},
    {"", "IsNaN", 9, is_nan},
    {"", "Less", 1, less},
    {"", "LessOrEqual", 12, less_or_equal},
    {"", "Log", 1, log},
    {"", "Max", 1, max},
    {"", "Mean", 1, mean},
    {"", "Min", 1, min},
    {"", "Mod", 10, mod},
    {"", "Mul", 1, mul},
    {"", "Neg", 1, neg},
    {"", "Not", 1, logical_not},
    {"", "Or", 1, logical_or},
    {"", "Pow", 1, pow},
    {"", "Reciprocal", 1, reciprocal},
    {"", "Round", 11, round},
    {"", "Sign", 9, sign},
    {"", "Sin", 7, sin},
    {"", "Sinh", 9, sinh},
    {"", "Sqrt", 1, sqrt},
    {"", "Sub", 1, sub},
    {"", "Sum", 1, sum},
    {"", "Tan", 7, tan},
    {"", "Where", 9, where},
    {"", "Xor", 1, logical_xor},
};

}  // namespace

std::span<const OperatorEntry> elementwise_operators() { return table; }

}  // namespace tilewright::onnx
