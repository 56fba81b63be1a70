#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

/// Element types by the name that Cast used before opset 6.
DType named_dtype(NodeImport& n, const std::string& wanted) {
  for (int32_t number = 1; number <= 26; ++number) {
    if (data_type_name(number) == wanted) return checked_dtype(number, n.describe());
  }
  n.reject("attribute 'to' is '{}', which is no element type", wanted);
}

/// To a power of two, on the bits of the float: its exponent, plus one where the mantissa rounds up.
ValueId to_scale(NodeImport& n, ValueId x, const std::string& round_mode, bool saturate) {
  Builder& b = n.b;
  const auto bits = [&](double value) { return b.scalar(DType::u32, value); };
  x = b.cast(x, DType::f32);
  const ValueId magnitude = b.one("bit_and", {b.one("bitcast", {x}, {{"to", DType::u32}}), bits(0x7FFFFFFF)});
  const double carry = round_mode == "up" ? 0x7FFFFF : round_mode == "nearest" ? 0x400000 : 0;
  const ValueId rounded = b.one("shift_right", {b.add(magnitude, bits(carry)), bits(23)});
  // 255 stands for NaN. An infinity, or what rounds beyond the largest power, becomes that power when saturating.
  const ValueId finite = b.min(rounded, bits(saturate ? 254 : 255));
  const ValueId exponent = b.where(b.unary("is_nan", x), bits(255), finite);
  return b.one("bitcast", {b.cast(exponent, DType::u8)}, {{"to", DType::f8e8m0}});
}

ValueId converted(NodeImport& n, ValueId x, DType to) {
  const bool saturate = n.flag("saturate", true);
  const DType from = n.b.dtype(x);
  if (to == DType::f8e8m0 && from != to) {
    const std::string round_mode = n.text("round_mode", "up");
    n.require(round_mode == "up" || round_mode == "down" || round_mode == "nearest", "round_mode '{}' is not up, down or nearest", round_mode);
    return to_scale(n, x, round_mode, saturate);
  }
  if (is_integer(to)) return n.b.cast(x, to, "wrap");
  return n.b.cast(x, to, saturate ? "saturate" : "unsaturated");
}

void cast(NodeImport& n) {
  const ValueId x = n.in(0);
  n.set(converted(n, x, n.opset() < 6 ? named_dtype(n, n.text("to")) : n.dtype_attribute("to")));
}

void cast_like(NodeImport& n) { n.set(converted(n, n.in(0), n.dtype(1))); }

void bit_cast(NodeImport& n) {
  const ValueId x = n.in(0);
  const DType to = n.dtype_attribute("to");
  n.require(bits_of(to) == bits_of(n.b.dtype(x)), "{} and {} differ in width", name(n.b.dtype(x)), name(to));
  n.set(to == n.b.dtype(x) ? x : n.b.one("bitcast", {x}, {{"to", to}}));
}

constexpr OperatorEntry table[] = {
    {"", "BitCast", 26, bit_cast},
    {"", "Cast", 1, cast},
    {"", "CastLike", 15, cast_like},
};

}  // namespace

std::span<const OperatorEntry> cast_operators() { return table; }

}  // namespace tilewright::onnx
