#include "import/onnx/quantization.h"

namespace tilewright::onnx {
namespace {

bool known_zero(Builder& b, ValueId v) {
  const auto constant = b.constant_of(v);
  if (!constant) return false;
  for (int64_t i = 0; i < constant->element_count(); ++i)
    if (constant->float_at(i) != 0) return false;
  return true;
}

}  // namespace

ValueId lay_parameter(NodeImport& n, ValueId parameter, ValueId x, int64_t axis_attribute, int64_t block) {
  Builder& b = n.b;
  if (parameter == no_value) return no_value;
  const int rank = b.rank(parameter);
  if (rank == 0) return parameter;
  if (rank == 1 && b.dims(parameter)[0] == Dim(1)) return b.reshape(parameter, {});
  const int axis = n.axis(axis_attribute, b.rank(x));
  const Dim size = b.dims(x)[static_cast<size_t>(axis)];
  if (block == 0) {
    n.require(rank == 1, "a scale or zero point of rank {} without block_size; needs a scalar or a vector", rank);
    Dims dims(static_cast<size_t>(b.rank(x)), Dim(1));
    dims[static_cast<size_t>(axis)] = b.dims(parameter)[0];
    return b.reshape(parameter, dims);
  }
  n.require(block > 0, "block_size is {}; needs at least 1", block);
  n.require(rank == b.rank(x), "a blocked scale or zero point of rank {} for data of rank {}; needs the same", rank, b.rank(x));
  Dims repeated = b.dims(parameter);
  const Dim blocks = repeated[static_cast<size_t>(axis)];
  repeated.insert(repeated.begin() + axis + 1, Dim(block));
  const ValueId spread = b.flatten_to(b.broadcast(b.unsqueeze(parameter, {axis + 1}), repeated), axis, axis + 2);
  const Dim covered = blocks * Dim(block);
  if (covered == size) return spread;
  n.require(!covered.is_constant() || !size.is_constant() || size.constant() <= covered.constant(), "{} blocks of {} for {} elements on axis {}", blocks.str(),
            block, size.str(), axis);
  return b.slice(spread, axis, Dim(0), size);
}

ValueId without_zero_point(Builder& b, ValueId x, ValueId zero_point) {
  if (zero_point == no_value || known_zero(b, zero_point)) return x;
  return b.sub(b.cast(x, DType::i32), b.cast(zero_point, DType::i32));
}

ValueId dequantize(Builder& b, ValueId x, ValueId scale, ValueId zero_point) {
  // The zero point of a small float is zero by definition.
  const ValueId steps = is_float(b.dtype(x)) ? x : without_zero_point(b, x, zero_point);
  return b.mul(b.cast(steps, DType::f32), b.cast(scale, DType::f32));
}

ValueId quantize(Builder& b, ValueId scaled, ValueId zero_point, DType to, bool saturate) {
  const bool has_zero_point = zero_point != no_value && !known_zero(b, zero_point);
  if (is_float(to)) {
    const ValueId shifted = has_zero_point ? b.add(scaled, b.cast(zero_point, b.dtype(scaled))) : scaled;
    return b.cast(shifted, to, saturate || bits_of(to) != 8 ? "saturate" : "unsaturated");
  }
  // f32 holds every rounded value that does not saturate, plus its zero point, exactly; f16 would not.
  ValueId steps = b.cast(b.unary("round", scaled), b.dtype(scaled) == DType::f64 ? DType::f64 : DType::f32);
  if (has_zero_point) steps = b.add(steps, b.cast(zero_point, b.dtype(steps)));
  return b.cast(steps, to);
}

ValueId requantize(Builder& b, ValueId x, ValueId multiplier, ValueId zero_point, DType to) {
  return quantize(b, b.mul(b.cast(x, DType::f32), b.cast(multiplier, DType::f32)), zero_point, to);
}

}  // namespace tilewright::onnx
